//! A sync that runs beside a test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shop::Shop;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

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
        std::thread::park_timeout(LOOK);
    }
}
