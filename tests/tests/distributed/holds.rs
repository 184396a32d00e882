//! Batches that are in a consumer's hands, written and not settled, while what is around them breaks.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::follows::{followed, is_followed, stop};
use crate::lanes::Held;
use crate::proxy::Weather;
use crate::stand::Stand;
use crate::until::{MINUTE, until};

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Redis is emptied while a lane still holds an old upsert whose newer delete was applied: nothing is resurrected, not even
/// for a moment, and what only the target has goes (L11).
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_resurrects_nothing() {
    const LIMITS: &str = "limits: { lanes: 1, lease_ms: 3000, delete_ratio_max: 1";
    // By the log: an import would wait for its fence while nobody consumes, and queue nothing.
    let mut stand = Stand::unscheduled("tombstone", &format!("events: log\n    {LIMITS} }}")).await;
    let mut host = stand.fill(600).await;
    let mut services = vec![stand.start("event-handler", 0), stand.start("importer", 0)];
    let mut consumer = stand.start("publishing-consumer", 0);
    stand.becomes_equal().await;
    is_followed(&stand).await;

    // The upserts and the newer deletes are queued while nobody consumes, and then taken by one consumer.
    assert!(consumer.terminate().await.success());
    let told = followed(&services[0]).await;
    run(&mut host, "UPDATE items SET name = 'alt' WHERE id <= 200").await;
    // One after the other: told together they would be one message.
    until("the upserts are queued", MINUTE, async || {
        followed(&services[0]).await >= told + 200.0 && stand.depth() >= 1
    })
    .await;
    run(&mut host, "DELETE FROM items WHERE id <= 100").await;
    until("the log tells both", MINUTE, async || followed(&services[0]).await >= told + 300.0).await;
    until("both are queued", MINUTE, async || stand.depth() >= 2).await;
    let held = stand.hold_writes().await;
    consumer.restart();
    // Each may be a write of its own: the second one follows the first, whose settlement has no end.
    until("they are in hand", MINUTE, async || Held::waiting(&stand).await > 0 && stand.ready(0).await == 0).await;

    // The broker is gone before they can be settled: what Fides has applied stays queued, the old upserts too.
    stand.before_broker.set(Weather::Silence);
    held.give_back().await;
    let mut target = stand.connect().await;
    until("Fides applies the deletes", MINUTE, async || {
        let left = "SELECT count(*) FROM copy WHERE id <= 100";
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut target).await.unwrap() == 0
    })
    .await;
    assert!(consumer.kill());
    stand.redis.lose_everything().await;
    run(
        &mut target,
        "CREATE TABLE risen (id bigint); \
         CREATE FUNCTION rises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO risen VALUES (NEW.id); RETURN NEW; END $$; \
         CREATE TRIGGER rises AFTER INSERT OR UPDATE ON copy FOR EACH ROW WHEN (NEW.id <= 100) EXECUTE FUNCTION rises(); \
         INSERT INTO copy (id, name, active, changed) VALUES (-1, 'nur hier', true, now())",
    )
    .await;
    run(&mut target, "DELETE FROM risen").await;
    // One message at a time: the old upserts are judged before the deletes are seen.
    let one = stand.folder.path().join("one.yaml");
    let text = std::fs::read_to_string(&stand.config).unwrap();
    let slow = format!("{LIMITS}, apply_records_max: 1, batch_records_max: 1");
    assert!(text.contains(LIMITS));
    std::fs::write(&one, text.replace(LIMITS, &slow)).unwrap();
    stand.before_broker.set(Weather::Fair);
    consumer.restart_with(&one);
    until("the old messages come again", MINUTE, async || {
        consumer.metric("fides_messages_redelivered_total", &[]).await >= 2.0
    })
    .await;
    stand.becomes_equal().await;
    let risen: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT id FROM risen ORDER BY id").fetch_all(&mut target).await.unwrap();
    assert_eq!(risen, [0; 0], "deleted records were written again");
    services.push(consumer);
    assert!(services.iter().any(|service| service.log().contains("the epoch has risen")));
    stop(&stand, services).await;
    stand.close().await;
}

/// Six cuts of all connections while one batch is in hand dead-letter nothing: neither here nor at the broker, whose own
/// limit of deliveries would be five in many installations.
#[tokio::test(flavor = "multi_thread")]
async fn six_cuts_on_one_batch() {
    // A write that waits is given up soon, so that the consumer notices that its connection is gone.
    let options = "limits: { lanes: 1, lease_ms: 3000, write_timeout_ms_max: 3000, retry_attempts_max: 1, \
                   breaker_failures: 1000, retry_cap_ms: 200 }";
    let stand = Stand::new("cuts", options).await;
    let mut host = stand.fill(2_000).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let consumer = &services[1];
    stand.becomes_equal().await;
    let redelivered = async || consumer.metric("fides_messages_redelivered_total", &[]).await;
    let before = redelivered().await;
    let held = stand.hold_writes().await;
    run(&mut host, "UPDATE items SET stock = -7").await;
    for cut in 1..=6 {
        until("the batch is in hand", MINUTE, async || Held::waiting(&stand).await > 0).await;
        let (struck, known) = (stand.before_broker.struck(), redelivered().await);
        stand.before_broker.cut();
        until("connections are cut", MINUTE, async || stand.before_broker.struck() > struck).await;
        until(&format!("it is delivered again after cut {cut}"), MINUTE, async || redelivered().await > known).await;
    }
    assert!(redelivered().await >= before + 6.0);
    held.give_back().await;
    stand.becomes_equal().await;
    assert_eq!(Stand::given_up_by_the_broker().await, 0);
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    stand.close().await;
}
