use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{
    Change, Column, Fault, FaultKind, Key, Lane, Namespace, Op, Selection, Shape, Table, Value, Version, decode_row,
    encode_value,
};

use super::frozen::Frozen;
use super::lock;

/// One write that landed, in the order in which writes landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub namespace: Namespace,
    /// By whom.
    pub lane: Lane,
    /// With which token.
    pub token: u64,
    /// The document's key.
    pub key: Key,
    /// The change's version.
    pub version: Version,
    /// The document; `None` for a deletion.
    pub document: Option<Bytes>,
}

/// Documents by key, and the history of every write, for proofs of order.
#[derive(Clone)]
pub struct FakeTarget(Arc<Mutex<State>>);

struct State {
    fencing: Fencing,
    checks: bool,
    /// Of which no two documents may have the same value.
    unique: Option<usize>,
    tokens: BTreeMap<(Namespace, Lane), u64>,
    collections: BTreeMap<Namespace, Collection>,
    history: Vec<Written>,
}

/// What a target held once.
pub struct Backup {
    tokens: BTreeMap<(Namespace, Lane), u64>,
    collections: BTreeMap<Namespace, Collection>,
}

#[derive(Clone)]
struct Collection {
    shape: Shape,
    documents: BTreeMap<Key, Bytes>,
    /// Newest version per key, of deleted ones too: what conditional writes compare with.
    versions: BTreeMap<Key, Version>,
}

impl FakeTarget {
    /// An empty target that fences by lane tokens.
    pub fn new() -> Self {
        Self::with_fencing(Fencing::LaneToken)
    }

    /// An empty target.
    pub fn with_fencing(fencing: Fencing) -> Self {
        Self(Arc::new(Mutex::new(State {
            fencing,
            checks: true,
            unique: None,
            tokens: BTreeMap::new(),
            collections: BTreeMap::new(),
            history: Vec::new(),
        })))
    }

    /// Plants a bug: says that it fences, but lets every write land (L6).
    pub fn stop_fencing(&self) {
        lock(&self.0).checks = false;
    }

    /// Refuses documents whose field at `field` another one has, from now on.
    pub fn keep_unique(&self, field: usize) {
        lock(&self.0).unique = Some(field);
    }

    /// The documents of a namespace.
    pub fn documents(&self, namespace: &Namespace) -> BTreeMap<Key, Bytes> {
        lock(&self.0).collections.get(namespace).map(|held| held.documents.clone()).unwrap_or_default()
    }

    /// A copy of everything that it holds, tokens included.
    pub fn back_up(&self) -> Backup {
        let state = lock(&self.0);
        Backup { tokens: state.tokens.clone(), collections: state.collections.clone() }
    }

    /// Goes back to what it held then.
    pub fn restore(&self, backup: &Backup) {
        let mut state = lock(&self.0);
        state.tokens.clone_from(&backup.tokens);
        state.collections.clone_from(&backup.collections);
    }

    /// Changes a document behind everyone's back.
    pub fn tamper(&self, namespace: &Namespace, key: &Key, document: Option<Bytes>) {
        if let Some(held) = lock(&self.0).collections.get_mut(namespace) {
            match document {
                Some(document) => held.documents.insert(key.clone(), document),
                None => held.documents.remove(key),
            };
        }
    }

    /// Every write that landed.
    pub fn history(&self) -> Vec<Written> {
        lock(&self.0).history.clone()
    }

    /// Pairs of writes of one key of which the later one had the smaller version: each went back in time.
    pub fn regressions(&self) -> Vec<(Written, Written)> {
        let state = lock(&self.0);
        let mut last: BTreeMap<(&Namespace, &Key), &Written> = BTreeMap::new();
        let mut found = Vec::new();
        for written in &state.history {
            let before = last.insert((&written.namespace, &written.key), written);
            if let Some(before) = before.filter(|before| before.version > written.version) {
                found.push((before.clone(), written.clone()));
            }
        }
        found
    }
}

impl Default for FakeTarget {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Whether a write with this token may land: checked when it lands, as inside the write's transaction (L6).
    fn admits(&self, write: &Write<'_>) -> Result<(), Fault> {
        if self.fencing != Fencing::LaneToken || !self.checks {
            return Ok(());
        }
        match self.tokens.get(&(write.sink.namespace.clone(), write.lane.clone())) {
            Some(&token) if token == write.token => Ok(()),
            Some(token) => Err(Fault::unavailable(format!(
                "{}: lane is claimed with token {token}; this writer has {}",
                write.lane, write.token
            ))
            .advise("another consumer took the lane over; this one must stop")),
            None => Err(Fault::unavailable(format!("{}: lane was never claimed", write.lane))),
        }
    }

    fn write(&mut self, write: &Write<'_>, change: &Change) -> Outcome {
        let conditional = self.checks && (self.fencing == Fencing::Conditional || write.sink.version_field.is_some());
        let Some(held) = self.collections.get_mut(&write.sink.namespace) else {
            return Outcome::Failed(Fault::permanent(format!("there is no collection {}", write.sink.namespace)));
        };
        if conditional && held.versions.get(&change.key).is_some_and(|newest| *newest > change.version) {
            return Outcome::Stale;
        }
        let document = match &change.op {
            Op::Upsert(document) => match fits(document, write.shape) {
                Ok(()) if self.unique.is_some_and(|field| held.has(&change.key, document, field)) => {
                    return Outcome::Failed(Fault::new(FaultKind::Deferred, "another document has the same value"));
                }
                Ok(()) => Some(document.clone()),
                Err(fault) => return Outcome::Failed(fault),
            },
            Op::Delete => None,
            Op::Reject { reason, .. } => {
                return Outcome::Failed(Fault::permanent(format!("a rejected record reached the target: {reason}")));
            }
        };
        match document.clone() {
            Some(document) => held.documents.insert(change.key.clone(), document),
            None => held.documents.remove(&change.key),
        };
        held.versions.insert(change.key.clone(), change.version);
        held.shape.clone_from(write.shape);
        self.history.push(Written {
            namespace: write.sink.namespace.clone(),
            lane: write.lane.clone(),
            token: write.token,
            key: change.key.clone(),
            version: change.version,
            document,
        });
        Outcome::Applied
    }
}

impl Collection {
    /// Whether a document of another key has the same value.
    fn has(&self, key: &Key, document: &[u8], field: usize) -> bool {
        let wanted = decode_row(document).unwrap_or_default();
        let has = |other: &Bytes| decode_row(other).is_ok_and(|values| values.get(field) == wanted.get(field));
        self.documents.iter().any(|(other, document)| other != key && has(document))
    }
}

/// As a statement whose values are bound by position: a row of another shape is refused.
fn fits(document: &[u8], shape: &Shape) -> Result<(), Fault> {
    let (values, fields) = (decode_row(document)?.len(), shape.fields.len());
    if values == fields {
        return Ok(());
    }
    Err(Fault::permanent(format!("a document of {values} values came in a shape of {fields} fields")))
}

#[async_trait]
impl Target for FakeTarget {
    fn fencing(&self) -> Fencing {
        lock(&self.0).fencing
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        let state = lock(&self.0);
        Ok(state.collections.get(namespace).map(|held| Table {
            columns: held
                .shape
                .fields
                .iter()
                .map(|field| Column {
                    name: field.name.clone(),
                    kind: field.kind,
                    native: field.kind.name().into(),
                    nullable: true,
                })
                .collect(),
            primary_key: held.shape.key_names().map(str::to_owned).collect(),
            references: Vec::new(),
            unique: vec![held.shape.key_names().map(str::to_owned).collect()],
            contested: state.unique.iter().map(|&field| vec![held.shape.fields[field].name.clone()]).collect(),
            records_estimate: held.documents.len() as u64,
            warnings: Vec::new(),
            store_warnings: Vec::new(),
        }))
    }

    async fn inspect(&self, sink: &Sink, _: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        let is_there = create || lock(&self.0).collections.contains_key(&sink.namespace);
        let missing = || Obstacle::new("it does not exist").advise("create it, or set `create: true`");
        Ok(if is_there { Vec::new() } else { vec![missing()] })
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        Obstacle::refuse(&sink.namespace, &self.inspect(sink, shape, create).await?)?;
        let mut state = lock(&self.0);
        let new = || Collection { shape: shape.clone(), documents: BTreeMap::new(), versions: BTreeMap::new() };
        state.collections.entry(sink.namespace.clone()).or_insert_with(new);
        Ok(())
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        let mut state = lock(&self.0);
        let claimed = state.tokens.entry((sink.namespace.clone(), lane.clone())).or_default();
        if token < *claimed {
            return Err(Fault::permanent(format!("{lane}: claimed with token {claimed}, which is newer than {token}")));
        }
        *claimed = token;
        Ok(())
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        Ok(lock(&self.0).tokens.get(&(sink.namespace.clone(), lane.clone())).copied())
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let mut state = lock(&self.0);
        match state.admits(write) {
            Ok(()) => changes.iter().map(|change| state.write(write, change)).collect(),
            Err(fault) => vec![Outcome::Failed(fault); changes.len()],
        }
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        let state = lock(&self.0);
        let Some(held) = state.collections.get(&sink.namespace) else {
            return Err(Fault::permanent(format!("there is no collection {}", sink.namespace)));
        };
        let position = |column: &Column| {
            let found = held.shape.fields.iter().position(|field| field.name == column.name);
            found.ok_or_else(|| Fault::permanent(format!("{} has no field {}", sink.namespace, column.name)))
        };
        let positions = selection.columns.iter().map(position).collect::<Result<Vec<_>, Fault>>()?;
        let row = |document: &Bytes| {
            let values = decode_row(document)?;
            let mut row = Vec::with_capacity(document.len());
            for &at in &positions {
                encode_value(&mut row, values.get(at).unwrap_or(&Value::Absent));
            }
            Ok(row)
        };
        let rows = held.documents.iter().map(|(key, document)| Ok((key.clone(), row(document)?)));
        Ok(Arc::new(Frozen::new(Version::default(), selection, rows.collect::<Result<_, Fault>>()?)))
    }
}
