//! Whatever bytes come back from a queue, a hash store or a host: nothing that reads them panics, and what is read is
//! what would be written. Bytes drawn at random seldom pass the first tag, so these are torn from good ones.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // functions that tests share; places are drawn, not computed

use std::sync::Arc;

use fides_core::{
    Batch, Change, FaultKind, FenceId, Field, Fingerprint, Held, Key, Kind, Mark, Message, Op, Origin, Reader, Shape,
    Value, Version, bucket, decode_row, encode_row, put_bytes, put_varint,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// One injury: at a place, so many bytes are replaced by others.
type Tear = (Index, usize, Vec<u8>);

fn tears() -> impl Strategy<Value = Vec<Tear>> {
    let other = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        // Lengths and counts that reach beyond the end, and beyond the memory of any machine.
        Just(vec![0xff; 9]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        Just(vec![0x80, 0x80, 0x80, 0x80, 0x10]),
    ];
    prop::collection::vec((any::<Index>(), 0..4_usize, other), 0..4)
}

fn torn(mut bytes: Vec<u8>, tears: Vec<Tear>, cut: Option<Index>) -> Vec<u8> {
    for (at, length, other) in tears {
        let start = at.index(bytes.len() + 1);
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, other);
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes
}

fn value() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Absent),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<f64>().prop_map(Value::F64),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        ".{0,6}".prop_map(|text| Value::String(text.into())),
        ".{0,6}".prop_map(|text| Value::Timestamp(text.into())),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((".{0,2}", inner), 0..3).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
            }),
        ]
    })
}

fn row_bytes(row: &[Value<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(&mut bytes, row);
    bytes
}

fn key() -> impl Strategy<Value = Key> {
    let column = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        "[\\x00aé]{0,4}".prop_map(|text| Value::String(text.into())),
        prop::collection::vec(0_u8..3, 0..4).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    prop::collection::vec(column, 1..4).prop_map(|columns| Key::encode(&columns).unwrap())
}

fn version() -> impl Strategy<Value = Version> {
    (0_u32..3, any::<u64>(), 0_u32..2).prop_map(|(epoch, position, sequence)| Version { epoch, position, sequence })
}

fn message() -> impl Strategy<Value = Message> {
    let op = prop_oneof![
        Just(Op::Delete),
        prop::collection::vec(value(), 0..4).prop_map(|row| Op::Upsert(row_bytes(&row).into())),
        (".{0,8}", ".{0,8}").prop_map(|(reason, record)| Op::Reject { reason, record }),
    ];
    let change = (key(), version(), prop::option::of(any::<u128>()), op, any::<bool>()).prop_map(
        |(key, version, fingerprint, op, forced)| Change {
            key,
            version,
            fingerprint: fingerprint.map(Fingerprint),
            op,
            forced,
        },
    );
    let batch =
        (prop::collection::vec(change, 0..5), prop::option::of("[a-f0-9-]{1,8}")).prop_map(|(changes, trace)| {
            let field = |name: &str, kind| Field { name: name.into(), kind };
            let shape = Shape { fields: vec![field("ü", Kind::I64), field("b", Kind::Json)], key: vec![1, 0] };
            Message::Changes(Batch { origin: Origin::Repair, trace, shape: Arc::new(shape), changes })
        });
    let fence = (any::<u32>(), any::<u64>()).prop_map(|(epoch, number)| Message::Fence(FenceId { epoch, number }));
    prop_oneof![4 => batch, 1 => fence]
}

fn marks() -> impl Strategy<Value = Vec<(Key, Mark)>> {
    let held = prop_oneof![Just(Held::Present), Just(Held::Absent), Just(Held::Dead)];
    let mark = (version(), prop::option::of(any::<u128>()), held).prop_map(|(version, fingerprint, held)| Mark {
        version,
        fingerprint: fingerprint.map(Fingerprint),
        held,
    });
    prop::collection::btree_map(key(), mark, 0..8).prop_map(|marks| marks.into_iter().collect())
}

/// A key of foreign bytes is shown and decoded without panic, and only the encoding of its columns is taken for a key:
/// two byte strings for one key would be two marks of one record.
fn check_key(bytes: &[u8]) -> Result<(), TestCaseError> {
    let key = Key::from_bytes(bytes);
    let _shown = format!("{key} {key:?}");
    if let Ok(columns) = key.decode() {
        prop_assert_eq!(Key::encode(&columns).unwrap(), key);
    }
    Ok(())
}

/// A row of foreign bytes, if it is one, says the same when it is written again.
fn check_row(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(row) = decode_row(bytes) {
        let again = row_bytes(&row);
        prop_assert_eq!(format!("{:?}", decode_row(&again).unwrap()), format!("{row:?}"));
    }
    Ok(())
}

fn check_message(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let message = match Message::decode(&bytes.into()) {
        Ok(message) => message,
        Err(fault) => {
            prop_assert!(matches!(fault.kind, FaultKind::Permanent | FaultKind::Unavailable), "{}", fault);
            prop_assert!(fault.to_string().contains("queue message"), "{}", fault);
            return Ok(());
        }
    };
    prop_assert_eq!(Message::decode(&message.encode().into()).unwrap(), message.clone());
    let Message::Changes(batch) = message else { return Ok(()) };
    prop_assert!(batch.shape.key.iter().all(|&at| at < batch.shape.fields.len()));
    for change in &batch.changes {
        check_key(change.key.as_bytes())?;
        if let Op::Upsert(document) = &change.op {
            check_row(document)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn a_torn_message(message in message(), tears in tears(), cut: Option<Index>) {
        check_message(torn(message.encode(), tears, cut))?;
    }

    #[test]
    fn a_torn_key(key in key(), tears in tears(), cut: Option<Index>) {
        check_key(&torn(key.as_bytes().to_vec(), tears, cut))?;
    }

    #[test]
    fn any_bytes_as_a_key(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..0x41], 0..24)) {
        check_key(&bytes)?;
    }

    #[test]
    fn a_torn_row(row in prop::collection::vec(value(), 0..5), tears in tears(), cut: Option<Index>) {
        check_row(&torn(row_bytes(&row), tears, cut))?;
    }

    #[test]
    fn a_torn_bucket(marks in marks(), tears in tears(), cut: Option<Index>) {
        match bucket::decode(&torn(bucket::encode(&marks), tears, cut)) {
            // Sorted and without doubles, or lookups in it would miss what it holds.
            Ok(read) => {
                prop_assert!(read.is_sorted_by(|(a, _), (b, _)| a < b));
                prop_assert_eq!(bucket::decode(&bucket::encode(&read)).unwrap(), read);
            }
            Err(fault) => prop_assert!(fault.to_string().contains("bucket"), "{}", fault),
        }
    }

    #[test]
    fn numbers_and_bytes_survive(number: u64, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        put_varint(&mut out, number);
        put_bytes(&mut out, &bytes);
        let mut reader = Reader::new(&out, "test");
        prop_assert_eq!((reader.varint().unwrap(), reader.bytes().unwrap()), (number, bytes.as_slice()));
        prop_assert!(reader.is_empty());
        // Whatever is missing at the end is missed.
        for length in 0..out.len() {
            let mut reader = Reader::new(&out[..length], "test");
            prop_assert!(reader.varint().is_err() || reader.bytes().is_err());
        }
    }
}

/// Deeper than any stack: refused, not followed.
#[test]
fn nesting_is_bounded() {
    const ARRAY_OF_ONE: [u8; 2] = [14, 1];
    let fault = decode_row(&ARRAY_OF_ONE.repeat(1_000_000)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    let mut nested = Value::Null;
    for _ in 0..60 {
        nested = Value::Array(vec![nested]);
    }
    assert_eq!(row_bytes(std::slice::from_ref(&nested))[..2], ARRAY_OF_ONE, "the bytes above are arrays");
    assert_eq!(decode_row(&row_bytes(std::slice::from_ref(&nested))).unwrap(), [nested]);
}

/// Damage that could be read as something else, which no tear may happen to make.
#[test]
fn damage_is_noticed() {
    let more_than_64_bits = [[0xff; 9].as_slice(), &[0x02]].concat();
    assert!(Reader::new(&more_than_64_bits, "test").varint().is_err());

    let mut longer = Message::Fence(FenceId { epoch: 1, number: 2 }).encode();
    longer.push(0);
    assert!(Message::decode(&longer.into()).is_err());

    // Five, put among the negative numbers.
    assert!(Key::from_bytes([0x0f, 0, 0, 0, 0, 0, 0, 0, 5]).decode().is_err());
    assert_eq!(Key::from_bytes([0x10, 0, 0, 0, 0, 0, 0, 0, 5]).decode().unwrap(), [Value::I64(5)]);

    let key = Key::encode(&[Value::I64(5)]).unwrap();
    let mark = Mark::tombstone(Version::scan(1, 1));
    assert!(bucket::decode(&bucket::encode(&[(key.clone(), mark), (key.clone(), mark)])).is_err(), "a key twice");
    let other = Key::encode(&[Value::I64(4)]).unwrap();
    assert!(bucket::decode(&bucket::encode(&[(key.clone(), mark), (other, mark)])).is_err(), "not in order");
    // The first key cannot share anything with the one before: after format, count and flags it says how much.
    let mut bytes = bucket::encode(&[(key, mark)]);
    assert_eq!(bytes[3], 0);
    bytes[3] = 3;
    assert!(bucket::decode(&bytes).is_err(), "a part of a key that is not there");
}
