//! What a clean-up that is asked for does with records that are gone, and with rows that Fides never wrote, as the
//! configuration says.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::asks::{ask_until_ended, copied, terminate};
use crate::stand::{Stand, rows};

impl Stand {
    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connect().await).await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.unwrap()
    }

    /// What a command over the real queue came to in the pipeline.
    async fn carried_out(&self, id: &str, command: &str) -> Value {
        let command = json!({ "id": id, "requester": "test", "command": command, "pipelines": [self.pipeline] });
        let mut done = ask_until_ended(self, &command).await;
        assert_eq!(done["status"], "done", "{done}");
        done["detail"][&self.pipeline].take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_deletion_keeps_the_document_until_its_record_returns() {
    let options = "limits: { lanes: 4, lease_ms: 3000 }\n    delete: { soft: { field: gone, value: true } }";
    let stand = Stand::unscheduled("soft", options).await;
    let services = copied(&stand).await;
    assert_eq!(stand.count("SELECT count(*) FROM copy WHERE gone").await, 0);
    stand.execute("CREATE TABLE shelf AS SELECT * FROM items WHERE id = 7; DELETE FROM items WHERE id <= 50").await;

    let cleaned = stand.carried_out("c", "cleanup").await;
    assert_eq!((&cleaned["candidates"], &cleaned["deleted"]), (&json!(50), &json!(50)), "{cleaned}");
    stand.becomes_equal().await;
    assert_eq!(stand.copied().await, rows(), "every document is still there");
    assert_eq!(stand.count("SELECT count(*) FROM copy WHERE gone AND id <= 50 AND name LIKE 'Stück%'").await, 50);
    assert_eq!(stand.count("SELECT count(*) FROM copy WHERE gone").await, 50);
    let again = stand.carried_out("again", "cleanup").await;
    assert_eq!(again["candidates"], 0, "what says that it is gone is not found again: {again}");

    stand.execute("INSERT INTO items SELECT * FROM shelf").await;
    let imported = stand.carried_out("r", "reimport").await;
    assert_eq!(imported["published"], 1, "{imported}");
    stand.becomes_equal().await;
    assert_eq!(stand.count("SELECT count(*) FROM copy WHERE gone").await, 49);
    assert_eq!(stand.count("SELECT count(*) FROM copy WHERE NOT gone AND id = 7").await, 1);
    terminate(services).await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_others_are_told_and_deleted_only_where_the_configuration_says_so() {
    for (policy, found, deleted, left) in [("keep", 3, 1, 3), ("delete", 0, 4, 0)] {
        let options = format!("limits: {{ lanes: 4, lease_ms: 3000 }}\n    foreign: {policy}");
        let stand = Stand::unscheduled(&format!("foreign_{policy}"), &options).await;
        let services = copied(&stand).await;
        stand
            .execute(
                "INSERT INTO copy (id, name, active, changed) SELECT 10000000 + i, 'foreign', true, now()
                     FROM generate_series(1, 3) i;
                 DELETE FROM items WHERE id = 5",
            )
            .await;
        let cleaned = stand.carried_out("c", "cleanup").await;
        assert_eq!((&cleaned["foreign"], &cleaned["deleted"]), (&json!(found), &json!(deleted)), "{policy}: {cleaned}");
        let (_, told, _) = stand.fides(&["status"]);
        assert_eq!(told.contains("3 rows of the target were never written by Fides"), policy == "keep", "{told}");
        assert_eq!(stand.count("SELECT count(*) FROM copy WHERE name = 'foreign'").await, left);
        assert_eq!(stand.count("SELECT count(*) FROM copy WHERE id = 5").await, 0);
        terminate(services).await;
        stand.close().await;
    }
}
