use std::collections::HashMap;

use crate::{Change, Mark};

/// Positions of the changes to write, ascending: newer than the key's mark (L1, L4), and the newest per key. A forced
/// change is admitted at equality too. `marks` is aligned with `changes`.
///
/// Equal fingerprints are *not* skipped here (L5): with another change queued or an attempt of unknown outcome behind
/// us, the mark does not say what the target holds.
pub fn admit(changes: &[Change], marks: &[Option<Mark>]) -> Vec<usize> {
    let mut newest: HashMap<&[u8], usize> = HashMap::with_capacity(changes.len());
    for (at, (change, mark)) in changes.iter().zip(marks).enumerate() {
        let admitted =
            mark.is_none_or(|mark| change.version > mark.version || (change.forced && change.version == mark.version));
        if !admitted {
            continue;
        }
        newest
            .entry(change.key.as_bytes())
            .and_modify(|before| {
                let old = &changes[*before];
                if change.version > old.version || (change.version == old.version && change.forced >= old.forced) {
                    *before = at;
                }
            })
            .or_insert(at);
    }
    let mut admitted: Vec<usize> = newest.into_values().collect();
    admitted.sort_unstable();
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fingerprint, Key, Op, Value, Version};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_of_each_key_and_nothing_stale(
            input in prop::collection::vec((0i64..4, 0u64..5, 0u32..2, any::<bool>()), 0..20),
            marked in prop::collection::vec(proptest::option::of(0u64..5), 4),
        ) {
            let changes: Vec<Change> = input.iter().map(|&(key, position, sequence, forced)| Change {
                key: Key::encode(&[Value::I64(key)]).unwrap(),
                version: Version { epoch: 0, position, sequence },
                fingerprint: None,
                op: Op::Delete,
                forced,
            }).collect();
            let mark_of = |key: i64| {
                marked[key as usize].map(|position| Mark::present(Version::scan(0, position), Fingerprint(0)))
            };
            let marks: Vec<_> = input.iter().map(|&(key, ..)| mark_of(key)).collect();
            let admitted = admit(&changes, &marks);
            for key in 0..4i64 {
                let mark = mark_of(key);
                let best = (0..changes.len())
                    .filter(|&at| input[at].0 == key)
                    .filter(|&at| mark.is_none_or(|mark| changes[at].version > mark.version
                        || changes[at].forced && changes[at].version == mark.version))
                    .map(|at| changes[at].version)
                    .max();
                let chosen: Vec<_> = admitted.iter().filter(|&&at| input[at].0 == key).collect();
                prop_assert_eq!(chosen.len(), usize::from(best.is_some()));
                if let Some(&&at) = chosen.first() {
                    prop_assert_eq!(Some(changes[at].version), best);
                }
            }
        }
    }
}
