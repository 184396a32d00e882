use async_trait::async_trait;

use crate::{Fault, Key, PipelineId};

/// Records that cannot be delivered, each with its reason: one entry per pipeline and key, the latest reason wins.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps letters durably. Known ones keep their first time and add up their attempts.
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault>;

    /// The letter of a key.
    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault>;

    /// Letters after `after`, in key order, at most `limit`.
    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault>;

    /// How many there are.
    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault>;

    /// Removes letters: their records were delivered, or an operator dropped them.
    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault>;
}

/// A record that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Its key.
    #[serde(skip, default = "empty_key")]
    pub key: Key,
    /// Why, and what can be done.
    pub reason: String,
    /// The document, or where the mapping failed the host record, as JSON, bounded.
    pub record: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it first failed, in milliseconds since 1970.
    pub first_ms: u64,
    /// When it last failed, in milliseconds since 1970.
    pub last_ms: u64,
    /// Trace of the batch it came in.
    pub trace: Option<String>,
}

fn empty_key() -> Key {
    Key::from_bytes(Vec::new())
}
