use std::sync::Arc;

use async_trait::async_trait;

use super::log::{Concern, Opened};
use crate::{Fault, Key, KeyRange, Namespace, Page, PipelineId, Selection, Table, Version};

/// The store that is followed. Its records are never written.
#[async_trait]
pub trait Host: Send + Sync {
    /// Every namespace that these rights can read, in name order (for `init`).
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault>;

    /// What the store says of a namespace; `None` when there is no such namespace.
    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault>;

    /// Who orders this host's states. A change of lineage raises the pipeline's epoch (DESIGN §5).
    async fn lineage(&self) -> Result<Lineage, Fault>;

    /// Opens a consistent state of a namespace. `drawn` was drawn from the state store before this call (L1): a host
    /// without a log labels the snapshot with it; a host with a log takes only its epoch, and its own exact position.
    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault>;

    /// Opens the log of a selection behind `after`, a place that an earlier reader stored, or at its present end. What is
    /// needed for that (a slot, a publication, triggers) carries the name of `reader` and is made if it is not there.
    /// A host without a log answers with a Permanent fault.
    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault>;

    /// Everything that would keep the log of a selection from being followed by `reader`, or that its reader should know.
    /// Changes nothing. A fault says that it could not be found out. A host without settings has nothing to tell.
    async fn check_log(&self, _selection: &Selection, _reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        Ok(Vec::new())
    }

    /// How many bytes of its log the host keeps because `reader` has not released them; `None` where it keeps nothing for
    /// it. Asked beside an open log, also one that nobody reads at the moment.
    async fn log_lag(&self, _reader: &PipelineId) -> Result<Option<u64>, Fault> {
        Ok(None)
    }

    /// Lets the host forget what it keeps for `reader`, whoever reads it: its open log ends with a fault, and the next
    /// opening has a gap. Repeating it is harmless.
    async fn forget_log(&self, _reader: &PipelineId) -> Result<(), Fault> {
        Ok(())
    }
}

/// One consistent state of one namespace, of a host or of a target: import, clean-up and verify are the same walk.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Fixed before this state was read (L1).
    fn version(&self) -> Version;

    /// Splits the namespace into up to `want` ranges of similar size that cover every key exactly once, in order.
    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault>;

    /// The records of `range` after `after`, in key order, at most `page_records_max`. The same arguments give the same
    /// page. An end of the store that is not proven (an error, a timeout) is a fault, never a short page.
    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault>;

    /// The records under `keys` (any order); a key that is not on the page is proven absent in this state.
    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault>;
}

/// Names the authority behind versions: system identifier, timeline, and whether positions are the host's or drawn.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lineage(pub String);
