//! What is in the lanes, and what is in a consumer's hands.

use fides_core::decide::lane_of;
use fides_core::{Key, Value};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use sqlx::PgConnection;

use crate::stand::Stand;

/// Which lane a row's changes travel in.
pub fn lane(id: i64, lanes: u16) -> u16 {
    lane_of(Key::encode(&[Value::I64(id)]).unwrap().as_bytes(), lanes)
}

/// The target, where nothing can be written: a lock on the documents is held, as by somebody who alters the table. What a
/// consumer writes meanwhile waits, until its time is over.
pub struct Held {
    connection: PgConnection,
}

impl Held {
    /// How many batches are in hand: their writes wait for the lock.
    pub async fn waiting(stand: &Stand) -> i64 {
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = to_regclass('copy') AND NOT granted \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        sqlx::query_scalar(waiting).fetch_one(&mut stand.connect().await).await.unwrap()
    }

    pub async fn give_back(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await.unwrap();
    }
}

impl Stand {
    /// Lets nobody write to the target until it is given back.
    pub async fn hold_writes(&self) -> Held {
        let mut connection = self.connect().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE copy IN SHARE ROW EXCLUSIVE MODE").execute(&mut connection).await.unwrap();
        Held { connection }
    }

    /// Messages in all lanes, unsettled ones included, as the operator's command tells it.
    pub fn depth(&self) -> u64 {
        let (_, stdout, _) = self.fides(&["status", "--json"]);
        depths(&serde_json::from_str(&stdout).unwrap_or_default())
    }

    /// Messages of a lane that the broker has not handed over to anybody.
    pub async fn ready(&self, lane: u16) -> u32 {
        ready(format!("fides.{}.lane.{lane}", self.pipeline)).await
    }

    /// Messages that the broker itself gave up, of all pipelines.
    pub async fn given_up_by_the_broker() -> u32 {
        ready("fides.dead".to_owned()).await
    }
}

/// What waits in a queue.
async fn ready(queue: String) -> u32 {
    let url = std::env::var("FIDES_TEST_AMQP_URL").expect("run this through tests/parts/rabbitmq");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    let count = queue.message_count();
    connection.close(200, "done".into()).await.unwrap();
    count
}

fn depths(status: &serde_json::Value) -> u64 {
    match status {
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| if name == "depth" { value.as_u64().unwrap_or(0) } else { depths(value) })
            .sum(),
        serde_json::Value::Array(items) => items.iter().map(depths).sum(),
        _ => 0,
    }
}
