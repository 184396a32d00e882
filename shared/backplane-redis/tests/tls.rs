//! `rediss://`: a certificate authority of one's own, and nothing without it.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{OwnRedis, free_port};
use fides_backplane_redis::{Settings, connect};
use fides_core::port::Expect;
use fides_core::{FaultKind, Limits};

/// An authority, and a certificate of 127.0.0.1 that it has signed.
const CERTIFICATES: &str = "
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -days 2 -subj '/CN=authority of a test' -out ca.pem
openssl ecparam -name prime256v1 -genkey -noout -out server.key
openssl req -new -key server.key -subj '/CN=server of a test' -out server.csr
echo 'subjectAltName = IP:127.0.0.1' >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem
";

fn certificates(folder: &Path) {
    let made = Command::new("sh")
        .args(["-e", "-c", CERTIFICATES])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("there is a shell");
    assert!(made.success(), "openssl makes certificates (Debian: openssl)");
}

#[tokio::test]
async fn tls_needs_an_authority_that_is_trusted() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().expect("folders are UTF-8").to_owned();
    let (cert, key, ca, port) = (file("server.pem"), file("server.key"), file("ca.pem"), free_port().to_string());
    let options = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let _redis =
        OwnRedis::start(&[&options[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat()).await;
    let ca_pem = std::fs::read(&ca).expect("openssl wrote it");

    let url = format!("rediss://127.0.0.1:{port}/0");
    let trusting = Settings { ca_pem: Some(ca_pem), ..Settings::new(url.into()) };
    let state = connect(trusting.clone(), &Limits::default()).await.expect("it is trusted").state();
    assert!(state.put("k", b"v", Expect::Absent).await.unwrap().is_some());

    let Err(fault) = connect(Settings { ca_pem: None, ..trusting.clone() }, &Limits::default()).await else {
        panic!("an authority that nobody knows was trusted");
    };
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(fault.to_string().contains("TLS"), "{fault}");
    let elsewhere = Settings { url: format!("rediss://localhost:{port}/0").into(), ..trusting };
    assert!(connect(elsewhere, &Limits::default()).await.is_err(), "the certificate is for another name");
}
