//! The token that a request has to show.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Why a request's headers do not show the token as `Authorization: Bearer …`, once; `None` where they do. Compared in
/// constant time.
pub fn refuses_bearer(token: &SecretString, headers: &HeaderMap) -> Option<&'static str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Some("no header Authorization, expected `Bearer` and the token");
    };
    let (scheme, given) = given.as_bytes().split_at_checked("Bearer ".len()).unwrap_or_default();
    let is_right = scheme.eq_ignore_ascii_case(b"Bearer ")
        && bool::from(given.trim_ascii().ct_eq(token.expose_secret().as_bytes()));
    (!is_right).then_some("the bearer token is wrong")
}
