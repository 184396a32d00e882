//! A request's body, of so many bytes and within a time.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has more bytes than it may, or says so.
    TooLarge {
        /// What it may have.
        bytes_max: usize,
    },
    /// It did not come in time.
    TooSlow,
    /// It ended before its end.
    Broken,
}

impl Unread {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes_max } => write!(f, "the body is larger than {bytes_max} bytes"),
            Self::TooSlow => f.write_str("the body did not come in time"),
            Self::Broken => f.write_str("the body ended before its end"),
        }
    }
}

/// The whole body: at most `bytes_max`, of which none are read where it says that it is larger, and within `time_max`.
pub async fn read(body: Body, bytes_max: usize, time_max: Duration) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Unread::TooLarge { bytes_max });
    }
    match timeout(time_max, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if is_limit(&*error) => Err(Unread::TooLarge { bytes_max }),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::TooSlow),
    }
}

fn is_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_limit)
}
