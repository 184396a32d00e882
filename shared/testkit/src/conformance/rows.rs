use fides_core::port::Snapshot;
use fides_core::{Fault, Fingerprint, Key, KeyRange, Page, Value};

/// One record of a page, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its encoded key.
    pub key: Key,
    /// Its columns, then its includes.
    pub values: Vec<Value<'static>>,
    /// Of its raw row.
    pub fingerprint: Fingerprint,
}

/// All records of a page.
pub fn records(page: &Page) -> Result<Vec<Record>, Fault> {
    let record = |at: usize| {
        Ok(Record {
            key: Key::from_bytes(page.keys.get(at)),
            values: page.values(at)?.into_iter().map(Value::into_owned).collect(),
            fingerprint: page.fingerprints[at],
        })
    };
    (0..page.len()).map(record).collect()
}

/// A range read to its proven end, page by page.
pub async fn scan_range(snapshot: &dyn Snapshot, range: &KeyRange) -> Result<Vec<Record>, Fault> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = snapshot.scan(range, after.as_ref()).await?;
        assert_eq!(page.version, snapshot.version(), "a page carries the version of its snapshot (L1)");
        all.extend(records(&page)?);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Everything in key order.
pub async fn scan_all(snapshot: &dyn Snapshot) -> Result<Vec<Record>, Fault> {
    scan_range(snapshot, &KeyRange::ALL).await
}
