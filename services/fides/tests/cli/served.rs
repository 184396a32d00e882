//! A status page that is served, and a client that says exactly what a test wants said.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::shop::Shop;

/// A page that is served; ends with the test.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
}

/// What was answered.
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Served {
    /// Serves the page of a shop at a free port.
    pub fn start(shop: &Shop, variables: &[(&str, &str)]) -> Self {
        let mut command = shop.command(&["dashboard", "--listen", "127.0.0.1:0", "--requester", "tester"]);
        let mut child = command.envs(variables.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.next().expect("it ended without a word").unwrap();
        let address = ready.split("http://").nth(1).and_then(|rest| rest.split(';').next());
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{ready}"));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends bytes as they are, and reads all that is answered.
    pub fn raw(&self, request: &[u8]) -> Got {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        // It may answer and close before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// A request with headers of its own beside those that are always there.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let host = self.address.to_string();
        let mut all = vec![("Host", host.as_str()), ("Connection", "close")];
        let length = body.len().to_string();
        if method == "POST" {
            all.extend([("Content-Type", "application/json"), ("Content-Length", length.as_str())]);
        }
        // What the test says itself is said instead.
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| name.eq_ignore_ascii_case(other)));
        all.extend(headers);
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in all {
            request.extend([name, ": ", value, "\r\n"]);
        }
        self.raw((request + "\r\n" + body).as_bytes())
    }

    pub fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Got {
        self.ask("POST", path, &[], &body.to_string())
    }

    pub fn status(&self) -> Value {
        let got = self.get("/api/status");
        assert_eq!(got.status, 200, "{}", got.body);
        got.json()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
