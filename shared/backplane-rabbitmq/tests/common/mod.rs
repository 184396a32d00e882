//! The broker of `FIDES_TEST_AMQP_URL`, and names on it that nobody else has.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

use fides_backplane_rabbitmq::Settings;
use secrecy::SecretString;

/// The broker's URL; a test without a broker fails and says how to give it one.
pub fn url() -> String {
    std::env::var("FIDES_TEST_AMQP_URL").expect(
        "FIDES_TEST_AMQP_URL is not set: run the test as `tests/parts/rabbitmq cargo test -p fides-backplane-rabbitmq`, \
         or set it to amqp://user:password@127.0.0.1:port/%2f of a throwaway broker",
    )
}

pub fn settings() -> Settings {
    Settings::new(SecretString::from(url()))
}

/// A name that no other test, and no other run, has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}
