//! Whether a request was signed with the account's key.

use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::call::segments;

/// Checks a request's signature; the error says what is wrong with it. How old the request is does not matter.
pub fn verify(key: &Secret, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), String> {
    let token = text(headers, AUTHORIZATION.as_str()).ok_or("there is no authorization header")?;
    let token = percent_decode_str(token).decode_utf8_lossy();
    let field = |name| token.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    if field("type") != Some("master") || field("ver") != Some("1.0") {
        return Err("the authorization is not of type master, version 1.0".to_owned());
    }
    let signature = field("sig").ok_or("the authorization has no signature")?;
    let date = text(headers, "x-ms-date").ok_or("there is no x-ms-date")?;
    let expected = sign(key, method, path, date).map_err(|error| format!("the account's key is unusable: {error}"))?;
    if signature == expected { Ok(()) } else { Err("the signature is not the one of the account's key".to_owned()) }
}

/// The signature of a request, in base64.
pub fn sign(key: &Secret, method: &Method, path: &str, date: &str) -> azure_core::Result<String> {
    let segments = segments(path);
    let (kind, link) = resource(&segments);
    let method = method.as_str().to_ascii_lowercase();
    hmac_sha256(&format!("{method}\n{kind}\n{link}\n{}\n\n", date.to_ascii_lowercase()), key)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The kind of resource that a path names, and what is signed of the path: of a list of resources its parent, of an
/// offer its id in lower case.
fn resource(segments: &[String]) -> (&str, String) {
    match segments {
        [] => ("", String::new()),
        [offers, id] if offers == "offers" => ("offers", id.to_lowercase()),
        [parent @ .., kind] if parent.len() % 2 == 0 => (kind, parent.join("/")),
        [.., kind, _] => (kind, segments.join("/")),
        [kind] => (kind, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_signed_by_its_parent_and_a_resource_by_itself() {
        for (path, kind, link) in [
            ("/", "", ""),
            ("/dbs", "dbs", ""),
            ("/dbs/d", "dbs", "dbs/d"),
            ("/dbs/d/colls/c/docs", "docs", "dbs/d/colls/c"),
            ("/dbs/d/colls/c/docs/a%20b", "docs", "dbs/d/colls/c/docs/a b"),
            ("/dbs/d/colls/c/pkranges", "pkranges", "dbs/d/colls/c"),
            ("/offers/AbC", "offers", "abc"),
        ] {
            let segments = segments(path);
            assert_eq!(resource(&segments), (kind, link.to_owned()), "{path}");
        }
    }
}
