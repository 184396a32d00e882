//! Several processes on one state file.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shop::Shop;

/// A sync that stays; killed with the test.
pub struct Staying(Child);

impl Staying {
    /// Starts it and waits until it says that it is ready. What it says later is read and dropped.
    pub fn start(shop: &Shop) -> Self {
        let mut child = shop.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said:?}")).unwrap();
            if line.starts_with("fides: ready") {
                break;
            }
            said.push(line);
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Staying {
    /// Sends it a signal and waits for its end; its exit status.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
    }
}

#[test]
fn beside_a_sync_one_may_look_but_not_sync() {
    let shop = Shop::new();
    let staying = Staying::start(&shop);
    let second = shop.run(&["sync", "--once"]);
    assert_eq!(second.status, 69, "{}", second.stderr);
    assert!(second.stderr.contains("state.fides"), "{}", second.stderr);
    assert!(second.stderr.contains("in use by process"), "{}", second.stderr);

    until("the first import", || shop.json(&["status", "--json"])[0]["run"]["ended_ms"].is_u64());
    until("every record", || shop.run(&["verify", "items"]).status == 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
    // The marks follow the writes.
    until("every mark", || shop.json(&["plan", "items", "--json"])["unchanged"] == 3);
    drop(staying);
    assert_eq!(shop.run(&["sync", "--once"]).status, 0, "a killed owner leaves the file free");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_sync_gracefully_and_is_its_exit_status() {
    let shop = Shop::new();
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let mut staying = Staying::start(&shop);
        assert_eq!(staying.end(signal), Some(status), "{signal}");
    }
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
}
