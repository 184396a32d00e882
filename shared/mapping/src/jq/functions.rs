use fides_format::parse_json;
use jaq_core::load::parse::Def;
use jaq_core::native::{self, Fun, bome, v};
use jaq_core::{Error, Exn, ValX};
use jaq_json::Val;

use super::budget::{Metered, Run};
use super::value::from_value;

/// Functions that a mapping must not have: they end the process, read its environment, its clock or its time zone, or
/// write to its logs. A document depends on its record alone.
pub(super) const REMOVED: [&str; 12] = [
    "halt",
    "halt_error",
    "env",
    "now",
    "localtime",
    "strflocaltime",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "input",
    "inputs",
];

/// Functions that are replaced by bounded ones.
const REPLACED: [&str; 2] = ["range", "fromjson"];

fn is_kept(name: &str) -> bool {
    !REMOVED.contains(&name)
}

/// Functions that are defined in jq.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    all.filter(|definition| is_kept(definition.name))
}

/// Functions that are not.
pub(super) fn natives() -> impl Iterator<Item = Fun<Metered>> {
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    all.filter(|(name, ..)| is_kept(name) && !REPLACED.contains(name)).chain([range(), fromjson()])
}

/// Counts its outputs as steps: a range by zero never ends.
fn range() -> Fun<Metered> {
    native::run(("range", v(3), |mut cv| {
        let by = cv.0.pop_var();
        let to = cv.0.pop_var();
        let from = cv.0.pop_var();
        let run = *cv.0.data();
        Box::new(steps(run, from, to, by))
    }))
}

fn steps(run: Run<'_>, from: Val, to: Val, by: Val) -> impl Iterator<Item = ValX<'_, Val>> {
    let zero = Val::from(0usize);
    let mut next = Some(Ok(from));
    std::iter::from_fn(move || {
        run.meter.step();
        let current: Val = match next.take()? {
            Ok(value) => value,
            Err(error) => return Some(Err(Exn::from(error))),
        };
        let is_inside = match by.cmp(&zero) {
            std::cmp::Ordering::Greater => current < to,
            std::cmp::Ordering::Less => current > to,
            std::cmp::Ordering::Equal => current != to,
        };
        if !is_inside {
            return None;
        }
        next = Some(current.clone() + by.clone());
        Some(Ok(current))
    })
}

/// Bounded in depth, and no number passes through a float.
fn fromjson() -> Fun<Metered> {
    native::run(("fromjson", v(0), |cv| {
        let parsed = cv.1.try_as_utf8_bytes_owned().and_then(|bytes| {
            let text = std::str::from_utf8(&bytes).map_err(Error::str)?;
            let value = parse_json(text).map_err(|fault| Error::str(fault.what))?;
            from_value(&value).map_err(|fault| Error::str(fault.what))
        });
        bome(parsed)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every native of this version of jaq has been looked at; a new one may read the world.
    #[test]
    fn all_natives_are_known() {
        let mut names: Vec<_> = natives().map(|(name, ..)| name).collect();
        names.sort_unstable();
        names.dedup();
        let known: Vec<_> = include_str!("known_natives.txt").split_whitespace().collect();
        assert_eq!(names, known);
    }
}
