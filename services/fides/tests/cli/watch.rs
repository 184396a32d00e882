//! `status --watch` on a terminal.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::shop::Shop;

/// The program on a terminal of its own, which tells its process id first.
fn on_terminal(shop: &Shop, arguments: &str) -> Command {
    let program = shop.command(&[]).get_program().to_string_lossy().into_owned();
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &format!("echo $$; exec '{program}' {arguments}"), "/dev/null"]);
    command.current_dir(shop.path("")).env("TERM", "xterm").stdin(Stdio::null());
    command
}

#[test]
fn a_watch_draws_in_place_and_gives_the_terminal_back() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = on_terminal(&shop, "status --watch").stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut id = String::new();
        said.read_line(&mut id).unwrap();
        let mut shown = Vec::new();
        // Two frames, each with its end.
        while String::from_utf8_lossy(&shown).matches("\x1b[?2026l").count() < 2 {
            assert_ne!(said.read_until(b'l', &mut shown).unwrap(), 0, "it ended");
        }
        assert!(Command::new("kill").args([signal, id.trim()]).status().unwrap().success());
        said.read_to_end(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with("\x1b[?1049h") && shown.trim_end().ends_with("\x1b[?1049l"), "{shown:?}");
        assert!(
            shown.contains("items") && !shown.contains("\x1b[2J"),
            "nothing is cleared before it is drawn: {shown:?}"
        );
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
    }
}
