//! Who waits for whom among refused records.

use std::collections::{BTreeSet, HashMap};

use fides_core::{Fault, Value, decode_row};
use fides_format::same;

use super::aside::Refused;

/// Keys of the records that wait for each other: each waits for one of them, and is waited for by one of them. Who waits for
/// a record that was not refused, or for one that does, is not among them: nothing that they could do would help.
pub(super) fn entangled(refused: &[Refused]) -> Result<BTreeSet<&[u8]>, Fault> {
    let mut sets: HashMap<&[String], Vec<Node<'_>>> = HashMap::new();
    for one in refused {
        sets.entry(&one.fields).or_default().push(Node::new(one)?);
    }
    // Who waits, for whom.
    let mut waits: Vec<(&[u8], &[u8])> = Vec::new();
    for set in sets.values() {
        for waiting in set {
            waits.extend(set.iter().filter(|holder| waiting.waits_for(holder)).map(|holder| (waiting.key, holder.key)));
        }
    }
    loop {
        let waiting: BTreeSet<&[u8]> = waits.iter().map(|(waiting, _)| *waiting).collect();
        let holding: BTreeSet<&[u8]> = waits.iter().map(|(_, holder)| *holder).collect();
        let before = waits.len();
        waits.retain(|(one, other)| holding.contains(one) && waiting.contains(other));
        if waits.len() == before {
            return Ok(waiting);
        }
    }
}

/// A record, and one set of its values.
struct Node<'a> {
    key: &'a [u8],
    wants: Vec<Value<'a>>,
    holds: Option<Vec<Value<'a>>>,
}

impl<'a> Node<'a> {
    fn new(refused: &'a Refused) -> Result<Self, Fault> {
        let holds = refused.holds.as_deref().map(decode_row).transpose()?;
        Ok(Self { key: &refused.key, wants: decode_row(&refused.wants)?, holds })
    }

    fn waits_for(&self, other: &Self) -> bool {
        let wants = |held: &Vec<Value<'_>>| self.wants.iter().zip(held).all(|(wanted, held)| same(wanted, held));
        self.key != other.key && other.holds.as_ref().is_some_and(wants)
    }
}

#[cfg(test)]
mod tests {
    use fides_core::encode_row;
    use proptest::prelude::*;

    use super::*;

    fn row(value: u8) -> Vec<u8> {
        let mut row = Vec::new();
        encode_row(&mut row, &[Value::I64(value.into())]);
        row
    }

    /// Records as (key, what it wants, what it holds).
    fn told(records: &[(u8, u8, Option<u8>)]) -> Vec<Refused> {
        let refused = |&(key, wants, holds): &(u8, u8, Option<u8>)| Refused {
            key: vec![key],
            fields: vec!["u".to_owned()],
            wants: row(wants),
            holds: holds.map(row),
        };
        records.iter().map(refused).collect()
    }

    fn keys(records: &[(u8, u8, Option<u8>)]) -> Vec<u8> {
        entangled(&told(records)).unwrap().iter().map(|key| key[0]).collect()
    }

    #[test]
    fn only_who_waits_for_each_other_is_entangled() {
        assert_eq!(keys(&[(1, 20, Some(10)), (2, 10, Some(20))]), [1, 2], "a swap");
        assert_eq!(keys(&[(1, 20, Some(10)), (2, 30, Some(20)), (3, 10, Some(30))]), [1, 2, 3], "a rotation");
        assert_eq!(keys(&[(1, 20, Some(10)), (2, 30, Some(20)), (3, 40, Some(30))]), [0; 0], "a chain");
        assert_eq!(
            keys(&[(1, 20, Some(10)), (2, 10, Some(20)), (3, 10, Some(30))]),
            [1, 2],
            "3 waits, and nobody for it"
        );
        assert_eq!(keys(&[(1, 20, Some(10)), (2, 10, None)]), [0; 0], "a new record holds nothing");
        assert_eq!(keys(&[(1, 10, Some(10))]), [0; 0], "one's own value is no other's");
    }

    #[test]
    fn values_of_other_fields_are_others() {
        let mut records = told(&[(1, 20, Some(10)), (2, 10, Some(20))]);
        records[1].fields = vec!["v".to_owned()];
        assert!(entangled(&records).unwrap().is_empty());
    }

    proptest! {
        /// When all who are entangled let go of what they hold, none of them waits for another one that was refused and still
        /// holds it, but for one who got no room itself.
        #[test]
        fn whoever_makes_room_gets_room(records in prop::collection::vec((0u8..6, 0u8..6), 0..6)) {
            let records: Vec<(u8, u8, Option<u8>)> =
                (0..).zip(&records).map(|(key, &(wants, holds))| (key, wants, Some(holds))).collect();
            let free = keys(&records);
            for (key, wants, holds) in records.iter().filter(|(key, ..)| free.contains(key)) {
                let frees = |(other, _, held): &&(u8, u8, Option<u8>)| other != key && *held == Some(*wants);
                prop_assert!(records.iter().filter(frees).any(|(other, ..)| free.contains(other)));
                let asks = |(other, wanted, _): &&(u8, u8, Option<u8>)| other != key && Some(*wanted) == *holds;
                prop_assert!(records.iter().filter(asks).any(|(other, ..)| free.contains(other)));
            }
        }
    }
}
