//! Who may look, and who may ask.
//!
//! Without a token whoever reaches loopback may: then a page of somebody else's must not reach it through a browser of ours.
//! Such a page can name a host of its own that resolves to 127.0.0.1, so names other than loopback's are refused; and what a
//! request changes is done only for JSON, which a browser sends across origins to nobody who has not agreed, and for our own
//! origin. With a token, which browsers never add by themselves, any name will do: a proxy before the page has one of its own.

use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use fides_http::refuses_bearer;
use secrecy::SecretString;
use std::net::{IpAddr, SocketAddr};

use super::answer::Refusal;
use crate::exit::Exit;
use crate::failure::Failure;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request has to show.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<SecretString>,
}

impl Access {
    /// The rule for an address. Beyond loopback there must be a token.
    pub fn at(listen: SocketAddr, token: Option<SecretString>) -> Result<Self, Failure> {
        if token.is_none() && !listen.ip().is_loopback() {
            let what = format!("the status page would be open to whoever reaches {listen}");
            let advice =
                "give `dashboard.token` or `dashboard.token_file` in the configuration, or listen at 127.0.0.1";
            return Err(Failure::new(Exit::Usage, what).advise(advice));
        }
        Ok(Self { token })
    }

    /// Why a request is refused, by its headers alone: no body is read for it. What is under `/api/` is for those who
    /// know the token; the page itself, which asks for the token, holds nothing.
    pub fn refuses(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Refusal> {
        match &self.token {
            None => foreign_host(headers),
            Some(token) if path.starts_with("/api/") => {
                refuses_bearer(token, headers).map(|why| Refusal::new(StatusCode::UNAUTHORIZED, why))
            }
            Some(_) => None,
        }
        .or_else(|| if *method == Method::POST { foreign_origin(headers) } else { None })
    }
}

fn foreign_host(headers: &HeaderMap) -> Option<Refusal> {
    let host = only(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
    let is_ours = host.as_ref().is_some_and(|host| is_loopback(host.host()));
    (!is_ours).then(|| {
        let why = "without a token this answers to localhost, 127.0.0.1 and [::1] alone; see `dashboard.token`";
        Refusal::new(StatusCode::FORBIDDEN, why)
    })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why what would change something is not asked by our own page, or by a program.
fn foreign_origin(headers: &HeaderMap) -> Option<Refusal> {
    let refused = |status, why: &str| Some(Refusal::new(status, why));
    let media = only(headers, &CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected Content-Type application/json");
    }
    let other_site = headers.contains_key(FETCH_SITE)
        && !only(headers, &FETCH_SITE).is_some_and(|site| site == "same-origin" || site == "none");
    let other_origin = headers.contains_key(ORIGIN) && {
        let origin = only(headers, &ORIGIN).and_then(|origin| origin.split_once("://"));
        let host = only(headers, &HOST);
        !origin.is_some_and(|(scheme, origin)| ["http", "https"].contains(&scheme) && Some(origin) == host)
    };
    if other_site || other_origin {
        return refused(StatusCode::FORBIDDEN, "a page of another origin may not ask this");
    }
    None
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn status(access: &Access, method: &Method, path: &str, pairs: &[(&'static str, &str)]) -> u16 {
        access.refuses(method, path, &headers(pairs)).map_or(200, |refusal| refusal.status.as_u16())
    }

    fn open() -> Access {
        Access::at("127.0.0.1:0".parse().unwrap(), None).unwrap()
    }

    #[test]
    fn beyond_loopback_there_is_a_token() {
        for listen in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1"] {
            assert!(Access::at(listen.parse().unwrap(), None).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::ffff:127.0.0.1]:1"] {
            let refused = Access::at(listen.parse().unwrap(), None).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{listen}");
            assert!(Access::at(listen.parse().unwrap(), Some(TOKEN.into())).is_ok(), "{listen}");
        }
    }

    #[test]
    fn without_a_token_only_loopback_is_a_name_of_ours() {
        let get = |host: &str| status(&open(), &Method::GET, "/api/status", &[("host", host)]);
        for host in ["localhost", "LOCALHOST:8090", "127.0.0.1:8090", "127.0.0.2", "[::1]:8090"] {
            assert_eq!(get(host), 200, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::]:1", "", "a b"]
        {
            assert_eq!(get(host), 403, "{host}");
        }
        assert_eq!(status(&open(), &Method::GET, "/", &[]), 403);
        let mut twice = headers(&[("host", "localhost")]);
        twice.append(HOST, "evil.example".parse().unwrap());
        assert!(open().refuses(&Method::GET, "/", &twice).is_some());
    }

    #[test]
    fn a_token_is_compared_as_a_whole_and_never_shown() {
        let access = Access::at("0.0.0.0:1".parse().unwrap(), Some(TOKEN.into())).unwrap();
        let get = |path: &str, given: &str| {
            status(&access, &Method::GET, path, &[("host", "fides.example"), ("authorization", given)])
        };
        assert_eq!(get("/api/status", &format!("Bearer {TOKEN}")), 200);
        assert_eq!(get("/api/status", &format!("bearer {TOKEN}")), 200);
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert_eq!(get("/api/status", wrong), 401, "{wrong}");
        }
        assert_eq!(status(&access, &Method::GET, "/api/status", &[("host", "fides.example")]), 401);
        assert_eq!(status(&access, &Method::GET, "/", &[("host", "fides.example")]), 200, "it asks for the token");
        let json = [("host", "localhost"), ("content-type", "application/json")];
        assert_eq!(status(&access, &Method::POST, "/api/replay", &json), 401, "loopback is no token");
        assert!(!format!("{access:?}").contains(TOKEN));
    }

    #[test]
    fn pages_of_other_origins_may_not_ask() {
        let post = |more: &[(&'static str, &str)]| {
            let own = [("host", "127.0.0.1:8090"), ("content-type", "application/json; charset=utf-8")];
            status(&open(), &Method::POST, "/api/replay", &[&own, more].concat())
        };
        assert_eq!(post(&[]), 200, "a program");
        assert_eq!(post(&[("origin", "http://127.0.0.1:8090"), ("sec-fetch-site", "same-origin")]), 200);
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", "ftp://127.0.0.1:8090"]
        {
            assert_eq!(post(&[("origin", origin)]), 403, "{origin}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert_eq!(post(&[("sec-fetch-site", site)]), 403, "{site}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"] {
            let sent = [("host", "localhost"), ("content-type", kind)];
            assert_eq!(status(&open(), &Method::POST, "/api/replay", &sent), 415, "{kind}");
        }
        assert_eq!(status(&open(), &Method::POST, "/api/replay", &[("host", "localhost")]), 415);
    }
}
