//! A state file that has no room: told with its name, no panic, nothing lost, and a run with room goes on.
#![cfg(unix)]

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::shop::{CONFIG, Ran, Shop, ran};

/// More than the largest limit has room for in the queue.
const ROWS: usize = 60_000;
/// What an earlier run wrote while there was room: whatever fills up, it does so in the middle.
const WRITTEN: usize = 1_000;
/// An import that never waits for room in a lane meets the full disk itself, at once.
const DEEP: &str = "limits: { lane_depth_batches_max: 10000 }\n";
const UNAVAILABLE: i32 = 69;

/// Of all these rows some are written; for the state of the others there is no room.
fn begun(shop: &Shop) {
    shop.on_host(&format!("DELETE FROM item; {}", rows(1, WRITTEN)));
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], WRITTEN);
    shop.on_host(&rows(WRITTEN + 1, ROWS));
}

fn rows(from: usize, to: usize) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})
         INSERT INTO item SELECT i, 'n' || i, '1' FROM n"
    )
}

/// Runs the command so that it cannot write a file beyond a size: a write there fails as on a full disk, while the signal
/// that would end the process is ignored.
fn run_within(shop: &Shop, kib: u64, args: &[&str]) -> Ran {
    let inner = shop.command(args);
    let mut command = Command::new("sh");
    // POSIX counts blocks of 512 bytes.
    command.args(["-c", "trap '' XFSZ; ulimit -f \"$0\" && exec \"$@\""]).arg((kib * 2).to_string());
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    ran(command.output().unwrap())
}

fn assert_told(ran: &Ran, what: &str) {
    assert_eq!(ran.status, UNAVAILABLE, "{what}: {}", ran.stderr);
    for expected in ["state.fides", "disk", "nothing is lost"] {
        assert!(ran.stderr.contains(expected), "{what}: {expected:?} is not in: {}", ran.stderr);
    }
    for never in ["panicked", "internal error", "target.sqlite"] {
        assert!(!ran.stderr.contains(never), "{what}: {}", ran.stderr);
    }
}

/// The next run goes on, both sides end equal, and what was marked was true: nothing is sent again.
fn assert_goes_on(shop: &Shop) {
    let rerun = shop.json(&["sync", "--once", "--json"]);
    let count = |field: &str| rerun[0][field].as_u64().unwrap();
    assert_eq!(count("read") + count("read_before"), ROWS as u64, "{rerun}");
    assert_eq!(shop.target_names().len(), ROWS);
    assert_eq!(shop.json(&["verify", "items", "--json"])["equal"], ROWS);
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 0);
}

#[test]
fn a_state_file_that_cannot_grow_stops_a_sync_and_loses_nothing() {
    let shop = Shop::new();
    shop.configure(&format!("{DEEP}{CONFIG}"));
    begun(&shop);
    for kib in [4, 64, 1_024] {
        assert_told(&run_within(&shop, kib, &["sync", "--once"]), &format!("{kib} KiB"));
    }
    assert_goes_on(&shop);
}

/// A file system in memory; unmounted with the test.
#[cfg(target_os = "linux")]
struct Small(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Small {
    /// `None` where this user may not mount: the test above needs no rights.
    fn mount(folder: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&folder).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn used_kib(&self) -> u64 {
        let files = std::fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().metadata().unwrap().blocks());
        files.sum::<u64>().div_ceil(2)
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: whatever still looks at it must not keep it for good.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_room_on_it_is_enough_to_go_on() {
    let shop = Shop::new();
    shop.configure(&format!("{DEEP}{CONFIG}").replace("./state.fides", "./small/state.fides"));
    let Some(small) = Small::mount(shop.path("small"), "64m") else {
        eprintln!("not run: this user may not mount a file system");
        return;
    };
    begun(&shop);
    let used_kib = small.used_kib();
    for room_kib in [64, 1_024] {
        let size = format!("{}k", used_kib + room_kib);
        small.resize(&size);
        let ran = shop.run(&["sync", "--once"]);
        assert_told(&ran, &size);
        assert!(ran.stderr.contains("is full"), "{size}: {}", ran.stderr);
        // One may look at it all the same.
        let status = shop.run(&["status"]);
        assert_eq!(status.status, 0, "{size}: {}", status.stderr);
    }
    small.resize("64m");
    assert_goes_on(&shop);
}
