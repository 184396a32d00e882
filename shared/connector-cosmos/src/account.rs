//! The account: one client, built at the first use.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::Secret;
use azure_core::http::Url;
use azure_data_cosmos::clients::DatabaseClient;
use azure_data_cosmos::options::{
    AvailabilityStrategy, BinaryEncodingOptions, ConnectionPoolOptions, ContentResponseOnWrite, OperationOptions,
    OperationOptionsBuilder, Region, ServerCertificateValidation, ThrottlingRetryOptionsBuilder,
};
use azure_data_cosmos::{AccountEndpoint, AccountReference, CosmosClient, CosmosRuntime, RoutingStrategy};
use fides_core::Fault;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use crate::fault::fault;
use crate::settings::Settings;

/// Any request, and the driver allows no more. The guard gives up a call that takes too long before; a page of a query is much
/// work for a server.
pub(crate) const REQUEST_MS_MAX: u64 = 65_000;
/// The driver gives no operation on an item less.
const ITEM_MS_MIN: u64 = 1_000;

pub(crate) struct Account {
    pub settings: Settings,
    endpoint: AccountEndpoint,
    item_ms_max: u64,
    client: OnceCell<CosmosClient>,
}

impl Account {
    /// An account whose requests for single items are given up after `item_ms_max`. Does not connect.
    pub fn new(settings: Settings, item_ms_max: u64) -> Result<Arc<Self>, Fault> {
        let wrong = |why: &str| {
            Fault::permanent(format!("the endpoint {} makes no sense: {why}", settings.endpoint))
                .advise("expected: https://ACCOUNT.documents.azure.com:443/")
        };
        let endpoint: AccountEndpoint = settings.endpoint.parse().map_err(|_| wrong("it is no URL"))?;
        match endpoint.url().scheme() {
            "https" => {}
            "http" if is_loopback(&endpoint) => {}
            "http" => return Err(wrong("http is for an emulator on this machine only")),
            _ => return Err(wrong("its scheme is not https")),
        }
        let item_ms_max = item_ms_max.clamp(ITEM_MS_MIN, REQUEST_MS_MAX);
        Ok(Arc::new(Self { settings, endpoint, item_ms_max, client: OnceCell::new() }))
    }

    /// How long a request for a single item may take.
    pub fn item_max(&self) -> Duration {
        Duration::from_millis(self.item_ms_max)
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        self.endpoint.url()
    }

    /// The database of the settings.
    pub async fn database(&self) -> Result<DatabaseClient, Fault> {
        Ok(self.client().await?.database_client(self.settings.database.as_str()))
    }

    /// The client; connects at the first call that succeeds.
    pub async fn client(&self) -> Result<&CosmosClient, Fault> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<CosmosClient, Fault> {
        let what = format!("connecting to Cosmos DB {}", self.endpoint);
        // A certificate that nobody vouches for is an emulator's: on this machine only.
        let validation = if is_loopback(&self.endpoint) {
            ServerCertificateValidation::RequiredUnlessEmulator
        } else {
            ServerCertificateValidation::Required
        };
        let pool = ConnectionPoolOptions::builder()
            .with_server_certificate_validation(validation)
            .with_gateway_v2_disabled(true)
            .with_is_http2_allowed(self.endpoint.url().scheme() == "https")
            .with_max_dataplane_request_timeout(Duration::from_millis(REQUEST_MS_MAX))
            .build()
            .map_err(|error| fault(&what, &error))?;
        let runtime = CosmosRuntime::builder().with_connection_pool(pool).build().await;
        let runtime = runtime.map_err(|error| fault(&what, &error))?;
        let key = Secret::new(self.settings.key.expose_secret().to_owned());
        let account = AccountReference::with_authentication_key(self.endpoint.clone(), key);
        let regions = self.settings.regions.iter().map(|region| Region::from(region.clone())).collect();
        CosmosClient::builder()
            .with_runtime(runtime)
            .with_default_operation_options(options())
            // Bodies are JSON text, with the digits that were written.
            .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
            .build(account, RoutingStrategy::PreferredRegions(regions))
            .await
            .map_err(|error| fault(&what, &error))
    }
}

/// Every request is made once: the guard alone tries again, waits and gives up. What the driver repeats by itself, and
/// cannot be told not to, is an answer 449 (somebody else writes the same item at this moment).
fn options() -> OperationOptions {
    OperationOptionsBuilder::new()
        .with_throttling_retry_options(ThrottlingRetryOptionsBuilder::new().with_max_retry_count(0).build())
        .with_max_failover_retry_count(0)
        .with_max_session_retry_count(0)
        .with_availability_strategy(AvailabilityStrategy::Disabled)
        .with_hedging_enabled(false)
        .with_content_response_on_write(ContentResponseOnWrite::Disabled)
        .build()
}

fn is_loopback(endpoint: &AccountEndpoint) -> bool {
    let host = endpoint.url().host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(endpoint: &str) -> Result<Arc<Account>, Fault> {
        let settings = Settings {
            endpoint: endpoint.to_owned(),
            key: "s3cret".to_owned().into(),
            database: "shop".to_owned(),
            regions: Vec::new(),
            containers: std::collections::BTreeMap::new(),
            concurrency: 32,
            request_units_per_second: None,
        };
        assert!(!format!("{settings:?}").contains("s3cret"));
        Account::new(settings, 1_000)
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for endpoint in
            ["http://127.0.0.1:8081", "http://localhost:8081/", "http://[::1]:1", "https://a.documents.azure.com:443/"]
        {
            assert!(account(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://a.documents.azure.com/", "http://127.0.0.1.example", "amqp://localhost", "nonsense"] {
            let fault = account(endpoint).err().unwrap();
            assert!(fault.to_string().contains("documents.azure.com:443"), "{fault}");
        }
    }
}
