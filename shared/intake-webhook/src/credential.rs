//! Who may send events.

use axum::http::{HeaderMap, HeaderName};
use fides_http::refuses_bearer;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What a sender proves that it knows. Compared in constant time; `Debug` shows none of it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// HMAC-SHA256 of the body, in hexadecimal digits, with or without `sha256=` before it.
    Signature {
        /// The key.
        secret: SecretString,
        /// The header that carries it.
        header: HeaderName,
    },
    /// `Authorization: Bearer …`
    Bearer(SecretString),
}

impl Credential {
    /// Why the headers alone prove that the sender may not send, so that no body is read for it.
    pub(crate) fn refuses_headers(&self, headers: &HeaderMap) -> Option<String> {
        match self {
            Self::Signature { header, .. } => signature(headers, header).err(),
            Self::Bearer(token) => refuses_bearer(token, headers).map(str::to_owned),
        }
    }

    /// Why the body is not the sender's.
    pub(crate) fn refuses_body(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let Self::Signature { secret, header } = self else { return None };
        let given = match signature(headers, header) {
            Ok(given) => given,
            Err(why) => return Some(why),
        };
        let is_right = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
            .is_ok_and(|hmac| hmac.chain_update(body).verify_slice(&given).is_ok());
        (!is_right).then(|| format!("the signature in {header} is wrong: expected HMAC-SHA256 of the body's bytes"))
    }
}

fn signature(headers: &HeaderMap, header: &HeaderName) -> Result<Vec<u8>, String> {
    let Some(given) = headers.get(header) else {
        return Err(format!("no header {header}, expected the HMAC-SHA256 of the body in hexadecimal digits"));
    };
    let digits = given.to_str().unwrap_or_default().trim();
    hex(digits.strip_prefix("sha256=").unwrap_or(digits))
        .ok_or_else(|| format!("{header} is no signature, expected 64 hexadecimal digits"))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|c| c.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect::<Option<_>>()?;
    (digits.len() == 64)
        .then(|| digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// The second test case of RFC 4231.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let credential =
            Credential::Signature { secret: "Jefe".into(), header: HeaderName::from_static("x-signature") };
        let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = b"what do ya want for nothing?";
        let given = |value: &str| headers(&[("x-signature", value)]);
        for value in [right.to_owned(), format!("sha256={right}"), right.to_uppercase()] {
            assert_eq!(credential.refuses_headers(&given(&value)), None, "{value}");
            assert_eq!(credential.refuses_body(&given(&value), body), None, "{value}");
        }
        assert!(credential.refuses_body(&given(right), b"something else").unwrap().contains("is wrong"));
        for wrong in ["", "sha256=", "5bdc", &right[1..], &format!("{right}00"), "ü"] {
            let headers: HeaderMap = [(
                HeaderName::from_static("x-signature"),
                axum::http::HeaderValue::from_bytes(wrong.as_bytes()).unwrap(),
            )]
            .into_iter()
            .collect();
            assert!(credential.refuses_headers(&headers).unwrap().contains("64 hexadecimal"), "{wrong}");
        }
        assert!(credential.refuses_headers(&HeaderMap::new()).unwrap().contains("no header x-signature"));
    }

    #[test]
    fn a_bearer_token_is_compared_as_a_whole() {
        let credential = Credential::Bearer("hunter2".into());
        let given = |value: &str| credential.refuses_headers(&headers(&[("authorization", value)]));
        assert_eq!([given("Bearer hunter2"), given("bearer hunter2")], [None, None]);
        for wrong in ["Bearer hunter", "Bearer hunter22", "Basic hunter2", "hunter2", "Bearer", ""] {
            assert!(given(wrong).is_some(), "{wrong}");
        }
        assert!(credential.refuses_headers(&HeaderMap::new()).is_some());
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
