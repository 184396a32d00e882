use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

/// How to reach Redis, and the bounds of what is kept there.
#[derive(Clone)]
pub struct Settings {
    /// `redis://user:password@host:port/database`, or `rediss://` for TLS. A secret.
    pub url: SecretString,
    /// A certificate authority (PEM) beside those of the system, for `rediss://`.
    pub ca_pem: Option<Vec<u8>>,
    /// One attempt to connect.
    pub connect_timeout: Duration,
    /// One answer; at most half the life of a lease.
    pub response_timeout: Duration,
    /// What all keys begin with; two deployments on one Redis need two of them.
    pub prefix: String,
    /// A bucket is split when it outgrows this many marks.
    pub bucket_marks_max: usize,
    /// Dead letters of one pipeline; a full store refuses new ones, which pauses the pipeline (L10).
    pub dead_letters_max: u64,
}

impl Settings {
    /// Settings for a URL, everything else as it is usual.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            prefix: "fides".to_owned(),
            bucket_marks_max: crate::BUCKET_MARKS_MAX,
            dead_letters_max: 100_000,
        }
    }
}

/// Without the URL: it may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("prefix", &self.prefix)
            .field("bucket_marks_max", &self.bucket_marks_max)
            .field("dead_letters_max", &self.dead_letters_max)
            .finish_non_exhaustive()
    }
}
