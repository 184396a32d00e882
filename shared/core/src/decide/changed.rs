use crate::{Key, Mark, Page};

/// What a page of a host and the marks of the same key range say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Positions on the page whose record is new or differs from its mark.
    pub changed: Vec<usize>,
    /// Their marks, aligned.
    pub known: Vec<Option<Mark>>,
    /// Records that equal their marks.
    pub unchanged: usize,
    /// Records that equal the mark of a dead letter: not sent again by an import.
    pub dead: usize,
    /// Marked keys that the listing did not meet: candidates for deletion, never proof (L8).
    pub unmet: Vec<(Key, Mark)>,
}

/// Compares rows `from..to` of a page with `marks`, both in key order, the marks covering exactly the range of those
/// rows. Only imports skip (L5), and only by this comparison.
pub fn compare(page: &Page, from: usize, to: usize, marks: &[(Key, Mark)]) -> Comparison {
    let mut result = Comparison::default();
    let mut marks = marks.iter().peekable();
    let unmet = |result: &mut Comparison, key: &Key, mark: &Mark| {
        if mark.may_exist() {
            result.unmet.push((key.clone(), *mark));
        }
    };
    for at in from..to {
        let key = page.keys.get(at);
        while let Some((passed, mark)) = marks.next_if(|(marked, _)| marked.as_bytes() < key) {
            unmet(&mut result, passed, mark);
        }
        let mark = marks.next_if(|(marked, _)| marked.as_bytes() == key).map(|(_, mark)| mark);
        match mark {
            Some(mark) if mark.fingerprint == Some(page.fingerprints[at]) => {
                if mark.held == crate::Held::Dead {
                    result.dead += 1;
                } else {
                    result.unchanged += 1;
                }
            }
            mark => {
                result.changed.push(at);
                result.known.push(mark.copied());
            }
        }
    }
    for (key, mark) in marks {
        unmet(&mut result, key, mark);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fingerprint, PageBuilder, RowCodec, Value, Version, encode_value};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn agrees_with_two_maps(
            rows in prop::collection::btree_map(0i64..20, 0i64..3, 0..15),
            marks in prop::collection::btree_map(0i64..20, proptest::option::of(0i64..3), 0..15),
        ) {
            let key = |id: i64| Key::encode(&[Value::I64(id)]).unwrap();
            let print = |value: i64| {
                let mut row = Vec::new();
                encode_value(&mut row, &Value::I64(value));
                crate::fingerprint(&row, 7)
            };
            let mut page = PageBuilder::new(7);
            for (&id, &value) in &rows {
                page.push(|keys, bytes| {
                    encode_value(bytes, &Value::I64(value));
                    Key::encode_column(&Value::I64(id), keys)
                }).unwrap();
            }
            let page = page.finish(Version::scan(0, 1), Arc::new(RowCodec), false);
            let mark = |fingerprint: Option<Fingerprint>| match fingerprint {
                Some(fingerprint) => Mark::present(Version::default(), fingerprint),
                None => Mark::tombstone(Version::default()),
            };
            let stored: Vec<(Key, Mark)> = marks.iter().map(|(&id, &value)| (key(id), mark(value.map(print)))).collect();
            let result = compare(&page, 0, page.len(), &stored);
            let ids: Vec<i64> = rows.keys().copied().collect();
            let changed: Vec<i64> = result.changed.iter().map(|&at| ids[at]).collect();
            let expected: Vec<i64> =
                rows.iter().filter(|(id, value)| marks.get(id) != Some(&Some(**value))).map(|(&id, _)| id).collect();
            prop_assert_eq!(&changed, &expected);
            let known: Vec<Option<Mark>> =
                expected.iter().map(|id| marks.get(id).map(|fingerprint| mark(fingerprint.map(print)))).collect();
            prop_assert_eq!(&result.known, &known);
            prop_assert_eq!(result.unchanged, rows.len() - expected.len());
            let unmet: BTreeSet<Key> = result.unmet.into_iter().map(|(key, _)| key).collect();
            let expected: BTreeSet<Key> = marks.iter()
                .filter(|(id, value)| value.is_some() && !rows.contains_key(id)).map(|(&id, _)| key(id)).collect();
            prop_assert_eq!(unmet, expected);
        }
    }
}
