use fides_core::Fault;
use redis::{ErrorKind, ServerErrorKind, cmd};
use std::collections::BTreeMap;

use crate::link::Link;

/// A setting of Redis with which marks or letters can be lost (L11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The setting of Redis; `config` where the settings cannot be read.
    pub setting: &'static str,
    /// What was found, and what it means.
    pub what: String,
    /// What the user can do.
    pub advice: String,
}

/// Settings, the value that L11 needs, and what another one means.
const NEEDED: [(&str, &str, &str); 4] = [
    ("maxmemory-policy", "noeviction", "marks are dropped when memory is short"),
    ("appendonly", "yes", "a restart loses marks that were confirmed"),
    ("appendfsync", "always", "a crash loses the last marks that were confirmed"),
    (
        "no-appendfsync-on-rewrite",
        "no",
        "a crash while the file is rewritten loses the marks that were confirmed meanwhile",
    ),
];

pub(crate) async fn check(link: &Link) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    for (setting, needed, meaning) in NEEDED {
        let found: BTreeMap<String, String> = match link.ask(cmd("CONFIG").arg("GET").arg(setting)).await {
            Ok(found) => found,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError)
                ) =>
            {
                return Ok(vec![unknown()]);
            }
            Err(error) => return Err(link.failed(error)),
        };
        match found.get(setting) {
            Some(found) if found == needed => {}
            Some(found) => findings.push(Finding {
                setting,
                what: format!("Redis has {setting} {found}: {meaning}"),
                advice: format!("CONFIG SET {setting} {needed}, and the same in redis.conf"),
            }),
            None => return Ok(vec![unknown()]),
        }
    }
    Ok(findings)
}

fn unknown() -> Finding {
    let needed: Vec<_> = NEEDED.iter().map(|(setting, needed, _)| format!("{setting} {needed}")).collect();
    Finding {
        setting: "config",
        what: "Redis does not let us read its settings (CONFIG GET): whether it keeps what it confirmed is not known"
            .to_owned(),
        advice: format!("allow +config|get to this user, or see to it that it has {}", needed.join(", ")),
    }
}
