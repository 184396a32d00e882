use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, Fault, Field, Fingerprint, Formats, Key, Kind, Op, Reader, Shape, Version, put_bytes, put_varint};

/// Formats of a message. There was none before 1. An unknown number pauses the lane, it never dead-letters.
const FORMATS: Formats = Formats::new(1, 1);

const CHANGES: u8 = 0;
const FENCE: u8 = 1;

/// A pipeline's name: the first part of everything stored for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineId(Arc<str>);

impl PipelineId {
    /// Takes a name that the configuration has validated.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The unit of order and of parallel publishing: one of a pipeline's queues.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Whose lane.
    pub pipeline: PipelineId,
    /// Which one, from 0.
    pub index: u16,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.lane.{}", self.pipeline, self.index)
    }
}

/// Numbers the fences of a pipeline (L7): one marker per lane carries it; a later fence is greater. The epoch comes first,
/// because a state store that was lost begins to count again while old markers are still queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FenceId {
    /// The pipeline's epoch.
    pub epoch: u32,
    /// Drawn from the state store.
    pub number: u64,
}

/// Who made a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A scan of the host.
    Import,
    /// The host's change log or a hint.
    Event,
    /// A clean-up.
    Cleanup,
    /// An operator: replay, repair.
    Repair,
}

/// Up to `batch_records_max` changes of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who made it.
    pub origin: Origin,
    /// W3C `traceparent` of the span that sends it, so that one record's way is one trace.
    pub trace: Option<String>,
    /// Fields of every document in it.
    pub shape: Arc<Shape>,
    /// In order.
    pub changes: Vec<Change>,
}

/// What travels in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Changes.
    Changes(Batch),
    /// A marker: once it is settled in every lane, everything confirmed before it is settled (L7).
    Fence(FenceId),
}

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The lane.
    pub lane: Lane,
    /// The message.
    pub message: Message,
}

impl Message {
    /// The bytes that a queue stores.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMATS.own()];
        match self {
            Message::Fence(fence) => {
                out.push(FENCE);
                put_varint(&mut out, u64::from(fence.epoch));
                put_varint(&mut out, fence.number);
            }
            Message::Changes(batch) => {
                out.push(CHANGES);
                encode_batch(&mut out, batch);
            }
        }
        out
    }

    /// Reads what [`Message::encode`] wrote. A newer format is an Unavailable fault: the message waits for newer code.
    pub fn decode(bytes: &Bytes) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes, "queue message");
        FORMATS.check("queue message", reader.u8()?)?;
        let message = match reader.u8()? {
            FENCE => {
                let epoch = u32::try_from(reader.varint()?).map_err(|_| reader.corrupt())?;
                Message::Fence(FenceId { epoch, number: reader.varint()? })
            }
            CHANGES => Message::Changes(decode_batch(&mut reader, bytes)?),
            _ => return Err(reader.corrupt()),
        };
        if reader.is_empty() { Ok(message) } else { Err(reader.corrupt()) }
    }
}

const DELETE: u8 = 0;
const UPSERT: u8 = 1;
const REJECT: u8 = 2;
const OP: u8 = 0x03;
const FORCED: u8 = 0x04;
const FINGERPRINT: u8 = 0x08;
/// The version is that of the change before.
const SAME_VERSION: u8 = 0x10;

fn encode_batch(out: &mut Vec<u8>, batch: &Batch) {
    out.push(match batch.origin {
        Origin::Import => 0,
        Origin::Event => 1,
        Origin::Cleanup => 2,
        Origin::Repair => 3,
    });
    put_bytes(out, batch.trace.as_deref().unwrap_or_default().as_bytes());
    put_varint(out, batch.shape.fields.len() as u64);
    for field in &batch.shape.fields {
        put_bytes(out, field.name.as_bytes());
        out.push(Kind::ALL.iter().position(|kind| *kind == field.kind).unwrap_or_default() as u8);
    }
    put_varint(out, batch.shape.key.len() as u64);
    for &at in &batch.shape.key {
        put_varint(out, at as u64);
    }
    put_varint(out, batch.changes.len() as u64);
    let mut before = Version::default();
    for change in &batch.changes {
        encode_change(out, change, before);
        before = change.version;
    }
}

fn encode_change(out: &mut Vec<u8>, change: &Change, before: Version) {
    let mut flags = match change.op {
        Op::Delete => DELETE,
        Op::Upsert(_) => UPSERT,
        Op::Reject { .. } => REJECT,
    };
    if change.forced {
        flags |= FORCED;
    }
    if change.fingerprint.is_some() {
        flags |= FINGERPRINT;
    }
    if change.version == before {
        flags |= SAME_VERSION;
    }
    out.push(flags);
    if change.version != before {
        out.extend_from_slice(&change.version.to_bytes());
    }
    if let Some(Fingerprint(fingerprint)) = change.fingerprint {
        out.extend_from_slice(&fingerprint.to_be_bytes());
    }
    put_bytes(out, change.key.as_bytes());
    match &change.op {
        Op::Delete => {}
        Op::Upsert(document) => put_bytes(out, document),
        Op::Reject { reason, record } => {
            put_bytes(out, reason.as_bytes());
            put_bytes(out, record.as_bytes());
        }
    }
}

fn decode_batch(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Batch, Fault> {
    let origin = match reader.u8()? {
        0 => Origin::Import,
        1 => Origin::Event,
        2 => Origin::Cleanup,
        3 => Origin::Repair,
        _ => return Err(reader.corrupt()),
    };
    let trace = Some(reader.str()?).filter(|trace| !trace.is_empty()).map(ToOwned::to_owned);
    let mut fields = Vec::new();
    for _ in 0..reader.count()? {
        let name = reader.str()?.to_owned();
        let kind = *Kind::ALL.get(usize::from(reader.u8()?)).ok_or_else(|| reader.corrupt())?;
        fields.push(Field { name, kind });
    }
    let mut key = Vec::new();
    for _ in 0..reader.count()? {
        let at = reader.varint()? as usize;
        if at >= fields.len() {
            return Err(reader.corrupt());
        }
        key.push(at);
    }
    let mut changes = Vec::new();
    let mut before = Version::default();
    for _ in 0..reader.count()? {
        let change = decode_change(reader, whole, before)?;
        before = change.version;
        changes.push(change);
    }
    Ok(Batch { origin, trace, shape: Arc::new(Shape { fields, key }), changes })
}

fn decode_change(reader: &mut Reader<'_>, whole: &Bytes, before: Version) -> Result<Change, Fault> {
    let flags = reader.u8()?;
    let version = if flags & SAME_VERSION == 0 { Version::from_bytes(reader.array()?) } else { before };
    let fingerprint =
        if flags & FINGERPRINT == 0 { None } else { Some(Fingerprint(u128::from_be_bytes(reader.array()?))) };
    let key = Key::from_bytes(reader.bytes()?.to_vec());
    let op = match flags & OP {
        DELETE => Op::Delete,
        UPSERT => Op::Upsert(whole.slice_ref(reader.bytes()?)),
        REJECT => Op::Reject { reason: reader.str()?.to_owned(), record: reader.str()?.to_owned() },
        _ => return Err(reader.corrupt()),
    };
    Ok(Change { key, version, fingerprint, op, forced: flags & FORCED != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        let op = prop_oneof![
            Just(Op::Delete),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Op::Upsert(bytes.into())),
            (".*", ".*").prop_map(|(reason, record)| Op::Reject { reason, record }),
        ];
        (any::<i64>(), 0u64..3, any::<u32>(), proptest::option::of(any::<u128>()), op, any::<bool>()).prop_map(
            |(key, position, sequence, fingerprint, op, forced)| Change {
                key: Key::encode(&[Value::I64(key)]).unwrap(),
                version: Version { epoch: 1, position, sequence },
                fingerprint: fingerprint.map(Fingerprint),
                op,
                forced,
            },
        )
    }

    proptest! {
        #[test]
        fn a_message_survives_its_encoding(changes in prop::collection::vec(change(), 0..6), trace: Option<u8>) {
            let field = |name: &str, kind| Field { name: name.into(), kind };
            let shape = Shape { fields: vec![field("ü", Kind::I64), field("b", Kind::Json)], key: vec![1, 0] };
            let trace = trace.map(|trace| format!("00-{trace}"));
            let message = Message::Changes(Batch { origin: Origin::Event, trace, shape: Arc::new(shape), changes });
            prop_assert_eq!(Message::decode(&message.encode().into()).unwrap(), message);
        }

        #[test]
        fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let _ = Message::decode(&bytes.clone().into());
            bytes.splice(0..0, [FORMATS.own(), CHANGES]);
            bytes.truncate(cut.max(1));
            let _ = Message::decode(&bytes.into());
        }
    }

    #[test]
    fn an_unknown_format_waits_instead_of_dying() {
        let fault = Message::decode(&Bytes::from_static(&[9, 0])).unwrap_err();
        assert_eq!(fault.kind, crate::FaultKind::Unavailable);
    }
}
