//! `dashboard`: where the status page is served, and who may see it.

use secrecy::{ExposeSecret, SecretString};

use super::events::{Secret, SecretFile};
use super::fields::{Fields, Section};
use super::model::Dashboard;
use super::scalar::Listen;

/// Whoever has the token may start imports, and nothing slows down those who guess.
const TOKEN_CHARS_MIN: usize = 16;

impl Section for Dashboard {
    const NAME: &'static str = "dashboard";
    const ABOUT: &'static str = "where `fides dashboard` serves the status page, and who may see it";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "where the page is served, without TLS; port 0 takes a free one. Beyond loopback it needs a token";
        let listen = fields.defaulted("listen", about, Listen, "127.0.0.1:8090");
        let token = fields.optional("token", "what whoever opens the page has to know", Secret("a token"));
        let file = fields.optional("token_file", "a file that holds the token", SecretFile);
        let fits = fields.check(|reading, node| {
            let (written, from_file) = (node.get("token"), node.get("token_file"));
            if let (Some(_), Some(second)) = (written, from_file) {
                return reading.refuse_at(&second.spot, "`token_file` beside `token`", "one of them");
            }
            let token = token.as_ref().and_then(Option::as_ref).or(file.as_ref().and_then(Option::as_ref));
            match (token, written.or(from_file)) {
                (Some(token), Some(place)) if !is_strong(token) => {
                    reading.refuse_at(&place.spot, "another token (not shown)", EXPECTED)
                }
                _ => Some(()),
            }
        });
        let token = token?.or(file?);
        fits?;
        Some(Self { listen: listen?, token })
    }
}

const EXPECTED: &str = "a token of at least 16 visible ASCII characters, as `openssl rand -hex 16` makes one";

/// Whether it is long enough, and fits a header.
fn is_strong(token: &SecretString) -> bool {
    let token = token.expose_secret();
    token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
}
