//! A server per test, and a client that knows of HTTP no more than these tests need: one request per connection.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use fides_cosmos_server::server::Server;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

/// Base64 of nothing in particular.
pub const KEY: &str = "dGhlIGtleSBvZiBhbiBhY2NvdW50IGluIGEgdGVzdA==";
/// The database of every test: a server is not shared.
pub const DATABASE: &str = "shop";
/// Its container, by partition key `/pk`.
pub const CONTAINER: &str = "orders";
/// The path of its documents.
pub const DOCUMENTS: &str = "/dbs/shop/colls/orders/docs";

pub struct Client {
    address: std::net::SocketAddr,
    /// What requests are signed with.
    pub key: Option<Secret>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|header| header.1.as_str())
    }
}

/// Starts a server with a database and a container.
pub async fn start() -> Client {
    let client = start_empty().await;
    for (path, body) in [
        ("/dbs", json!({ "id": DATABASE })),
        ("/dbs/shop/colls", json!({ "id": CONTAINER, "partitionKey": { "paths": ["/pk"], "kind": "Hash" } })),
    ] {
        let reply = client.send("POST", path, &[], &body).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    client
}

/// Starts a server with nothing in it.
pub async fn start_empty() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(Server::new(address, Some(KEY.to_owned())).unwrap());
    tokio::spawn(server.serve(listener));
    Client { address, key: Some(Secret::new(KEY)) }
}

impl Client {
    /// Sends a signed request. A connection that ends without an answer is an error of kind `UnexpectedEof`.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> io::Result<Reply> {
        let (address, request) = (self.address, self.request(method, path, headers, body));
        let exchange = move || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            io::read_to_string(stream)
        };
        let answer = spawn_blocking(exchange).await.unwrap()?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Reply {
            status,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() },
        })
    }

    /// Sends a request and goes away before it is answered.
    pub async fn send_and_leave(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) {
        let (address, request) = (self.address, self.request(method, path, headers, body));
        let leave = move || TcpStream::connect(address)?.write_all(request.as_bytes());
        spawn_blocking(leave).await.unwrap().unwrap();
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> String {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        if let Some(key) = &self.key {
            let (date, signature) = ("Sun, 22 Nov 2026 00:00:00 GMT", signature(key, method, path));
            request +=
                &format!("x-ms-date: {date}\r\nauthorization: type%3Dmaster%26ver%3D1.0%26sig%3D{signature}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request + &format!("content-length: {}\r\n\r\n{body}", body.len())
    }

    /// Sends an admin request and expects it to be done.
    pub async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.send(method, path, &[], body).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    pub async fn upsert(&self, id: &str, pk: &str, value: i64) -> io::Result<Reply> {
        let (header, body) = (json!([pk]).to_string(), json!({ "id": id, "pk": pk, "value": value }));
        let headers = [("x-ms-documentdb-is-upsert", "True"), ("x-ms-documentdb-partitionkey", header.as_str())];
        self.send("POST", DOCUMENTS, &headers, &body).await
    }

    pub async fn read(&self, id: &str, pk: &str) -> io::Result<Reply> {
        let header = json!([pk]).to_string();
        let headers = [("x-ms-documentdb-partitionkey", header.as_str())];
        self.send("GET", &format!("{DOCUMENTS}/{id}"), &headers, &Value::Null).await
    }
}

/// What is signed, spelled out for the paths that tests use.
fn signature(key: &Secret, method: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let parts: Vec<_> = path.split('/').collect();
    let (kind, link) = match parts.len() {
        1 | 3 | 5 => (parts[parts.len() - 1], parts[..parts.len() - 1].join("/")),
        _ => (parts[parts.len() - 2], path.to_owned()),
    };
    let text = format!("{}\n{kind}\n{link}\nsun, 22 nov 2026 00:00:00 gmt\n\n", method.to_lowercase());
    hmac_sha256(&text, key).unwrap().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
