//! Single items of a container: read, created, replaced under a condition. Every answer is counted.

use azure_data_cosmos::models::{ItemResponse, ResponseHeaders};
use azure_data_cosmos::options::{
    EndToEndOperationLatencyPolicy, ItemReadOptions, ItemWriteOptions, OperationOptions, OperationOptionsBuilder,
    Precondition,
};
use azure_data_cosmos::{CosmosError, PartitionKey};
use serde_json::value::RawValue;

use crate::container::Container;
use crate::fault::{is_missing, status};

/// An item as it was read.
pub(crate) struct Item {
    /// Changes with every write.
    pub etag: String,
    pub json: String,
}

/// What became of a conditional write.
pub(crate) enum Put {
    /// It is written; the item's etag.
    Written(String),
    /// The condition does not hold: an item is there, another one, or none any more.
    Refused,
}

impl Container {
    /// The item of an address, if there is one.
    pub async fn read(&self, partition: PartitionKey, id: &str) -> Result<Option<Item>, CosmosError> {
        let options = ItemReadOptions::default().with_operation_options(self.in_time());
        let read = || self.client.read_item(partition.clone(), id, Some(options.clone()));
        match self.patiently(read).await {
            Ok(response) => {
                let etag = etag_of(response.headers());
                let json: Box<RawValue> = response.into_model()?;
                Ok(Some(Item { etag, json: json.get().to_owned() }))
            }
            Err(error) => {
                // A replica that lags behind says so, too; that is no absence.
                if is_missing(&error) && !matches!(status(&error).1, 1_002 | 1_003) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Creates an item where none is.
    pub async fn create(&self, partition: PartitionKey, id: &str, json: &RawValue) -> Result<Put, CosmosError> {
        let options = self.write_options();
        let create = || self.client.create_item(partition.clone(), id, json, Some(options.clone()));
        settled(self.patiently(create).await, 409)
    }

    /// Replaces the item that has this etag.
    pub async fn replace(
        &self,
        partition: PartitionKey,
        id: &str,
        json: &RawValue,
        etag: &str,
    ) -> Result<Put, CosmosError> {
        let options = self.write_options().with_precondition(Precondition::if_match(etag.to_owned()));
        let replace = || self.client.replace_item(partition.clone(), id, json, Some(options.clone()));
        settled(self.patiently(replace).await, 412)
    }

    fn write_options(&self) -> ItemWriteOptions {
        ItemWriteOptions::default().with_operation_options(self.in_time())
    }

    /// L6, L10: a request, and what the driver repeats by itself (449), ends before the write that it belongs to.
    fn in_time(&self) -> OperationOptions {
        let policy = EndToEndOperationLatencyPolicy::new(self.item_max);
        OperationOptionsBuilder::new().with_end_to_end_latency_policy(policy).build()
    }

    /// Sends a request, and again when it was answered 429, for as long as the container is patient. A document that moves is
    /// several requests: to begin with the first of them anew, for each that was refused, would pay for the others again.
    async fn patiently<R: Future<Output = Result<ItemResponse, CosmosError>>>(
        &self,
        request: impl Fn() -> R,
    ) -> Result<ItemResponse, CosmosError> {
        let mut answer = self.counted(request().await);
        let Some(end) = self.patient_until else { return answer };
        while answer.as_ref().is_err_and(is_throttled) {
            // A new turn each time: a part of the account that stays busy does not keep the others waiting.
            let Some(turn) = self.pace.turn(end).await else { return answer };
            answer = self.counted(request().await);
            if answer.as_ref().is_err_and(is_throttled) { turn.refused() } else { turn.passed() }
        }
        answer
    }

    fn counted(&self, answer: Result<ItemResponse, CosmosError>) -> Result<ItemResponse, CosmosError> {
        match &answer {
            Ok(response) => self.count(response.headers()),
            Err(error) => self.count_error(error),
        }
        answer
    }

    /// Counts an answer.
    pub fn count(&self, headers: &ResponseHeaders) {
        self.pace.spend(headers.request_charge().map_or(0.0, |charge| charge.value()));
    }

    /// Counts an answer that is an error, and rests where it asks for that.
    pub fn count_error(&self, error: &CosmosError) {
        // What was not answered cost nothing that is known, and says nothing of the account.
        let Some(response) = error.response() else { return };
        let units = response.headers().request_charge.as_ref().map_or(0.0, |charge| charge.value());
        if is_throttled(error) {
            let after = response.headers().retry_after_ms.unwrap_or(10);
            self.pace.rest(units, std::time::Duration::from_millis(after));
        } else {
            self.pace.spend(units);
        }
    }
}

fn is_throttled(error: &CosmosError) -> bool {
    status(error).0 == 429
}

fn settled(answer: Result<ItemResponse, CosmosError>, refusal: u16) -> Result<Put, CosmosError> {
    match answer {
        Ok(response) => Ok(Put::Written(etag_of(response.headers()))),
        Err(error) => match status(&error) {
            (refused, _) if refused == refusal => Ok(Put::Refused),
            // What was to be replaced is gone.
            (404, sub) if refusal == 412 && !matches!(sub, 1_002 | 1_003) => Ok(Put::Refused),
            _ => Err(error),
        },
    }
}

fn etag_of(headers: &ResponseHeaders) -> String {
    headers.etag().map(ToString::to_string).unwrap_or_default()
}
