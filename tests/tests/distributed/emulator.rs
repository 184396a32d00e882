//! A database of a test's own in Microsoft's in-memory emulator of Cosmos DB, and what its server breaks.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::stand::{Stand, variable};

pub struct Emulator {
    pub database: String,
}

impl Emulator {
    /// Points the stand at a database of the emulator: its orders become documents there, in partitions of their region.
    pub fn of(stand: &Stand, more: &str) -> Self {
        let (url, key) = (url(), variable("FIDES_TEST_COSMOS_KEY", "cosmos"));
        let database = stand.pipeline.clone();
        let target = format!(
            "  target: {{ kind: cosmos, endpoint: \"{url}\", key: \"{key}\", database: {database}, \
             containers: {{ orders: {{ partition_key: [/region] }} }}{more} }}"
        );
        let text = std::fs::read_to_string(&stand.config).unwrap();
        let lines = text.lines().map(|line| match line.trim_start() {
            said if said.starts_with("target: { kind: postgres") => target.clone(),
            "from: items" => line.replace("items", "orders"),
            "into: public.copy" => line.replace("public.copy", "orders"),
            _ => line.to_owned(),
        });
        std::fs::write(&stand.config, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        Self { database }
    }

    /// Breaks what the rule says, in this database only.
    pub fn breaks(&self, mut rule: Value) {
        rule["database"] = json!(self.database);
        admin("POST", "/__faults", &rule.to_string());
    }

    pub fn heals(&self) {
        admin("DELETE", &format!("/__faults?database={}", self.database), "");
    }

    /// How often each rule fired.
    pub fn fired(&self) -> Vec<u64> {
        let rules = admin("GET", &format!("/__faults?database={}", self.database), "");
        rules.as_array().unwrap().iter().map(|rule| rule["fired"].as_u64().unwrap()).collect()
    }

    /// Grants so many request units per second.
    pub fn grants(&self, ru_per_second: u32) {
        admin("POST", "/__throttle", &json!({ "database": self.database, "ru_per_second": ru_per_second }).to_string());
    }

    pub fn stats(&self) -> Value {
        admin("GET", &format!("/__stats?database={}", self.database), "")
    }
}

fn url() -> String {
    variable("FIDES_TEST_COSMOS_URL", "cosmos")
}

/// One request to the server's own surface.
fn admin(method: &str, path: &str, body: &str) -> Value {
    let url = url();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Value::Null)
}
