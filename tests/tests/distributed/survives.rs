//! A table is copied while a writer changes it and one thing breaks; afterwards both sides are equal.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::until::{MINUTE, until};
use crate::writer::Writer;

/// How long things stay broken.
fn storm() -> Duration {
    Duration::from_secs(if std::env::var_os("FIDES_TEST_LONG").is_some() { 60 } else { 12 })
}

async fn written(consumer: &Process) -> f64 {
    consumer.metric("fides_records_written_total", &[]).await
}

/// Copies while `fault` is at work, and proves that nothing was lost.
async fn survives(name: &str, fault: impl AsyncFnOnce(&mut Stand, &mut Vec<Process>)) {
    let mut stand = Stand::new(name, "limits: { lanes: 8, lease_ms: 3000, delete_ratio_max: 1 }").await;
    stand.fill(rows()).await;
    let mut services = stand.start_all();
    let writer = Writer::start(&stand.url(), rows()).await;
    stand.has_copied(1).await;
    fault(&mut stand, &mut services).await;
    assert!(writer.stop().await > 10, "the writer has written");
    for service in &mut services {
        assert!(service.is_alive(), "{} gave up", service.name);
    }
    stand.becomes_equal().await;
    for service in &mut services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    stand.close().await;
}

/// Does something again and again while the storm lasts; how often.
async fn during_the_storm(every: Duration, mut act: impl AsyncFnMut(usize)) -> usize {
    let end = Instant::now() + storm();
    let mut times = 0;
    while Instant::now() < end {
        tokio::time::sleep(every).await;
        act(times).await;
        times += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_killed() {
    survives("killed", async |_, services| {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        // Each of them once, then whoever it hits.
        let mut victims: Vec<usize> = (0..services.len()).collect();
        random.shuffle(&mut victims);
        let mut killed = 0;
        let times = during_the_storm(Duration::from_millis(1_500), async |times| {
            let victim = victims.get(times).copied().unwrap_or_else(|| random.usize(..services.len()));
            killed += usize::from(services[victim].kill());
            services[victim].restart();
        })
        .await;
        assert!(times >= services.len(), "{times} kills");
        assert_eq!(killed, times, "each of them was alive when it was killed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts() {
    survives("restart", async |_, services| {
        let restart = std::env::var("FIDES_TEST_RABBITMQ_RESTART").expect("run this through tests/parts/rabbitmq");
        let consumers: Vec<&Process> = services.iter().filter(|it| it.name == "publishing-consumer").collect();
        let before: Vec<usize> = consumers.iter().map(|consumer| consumer.log().len()).collect();
        let status = tokio::process::Command::new(restart).status().await.unwrap();
        assert!(status.success());
        for (consumer, before) in consumers.iter().zip(before) {
            until("it misses the broker", MINUTE, async || {
                let log = consumer.log();
                log[before..].lines().any(|line| line.contains("lane paused") && line.contains("RabbitMQ"))
            })
            .await;
        }
        let written = async || join_all(consumers.iter().map(|it| written(it))).await.iter().sum::<f64>();
        let until_now = written().await;
        until("what is written goes on", MINUTE, async || written().await > until_now).await;
        for service in services {
            until("it is ready again", MINUTE, async || service.waits_for().await.is_empty()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_broker_that_are_cut_every_second() {
    survives("cut", async |stand, _| {
        let cuts = during_the_storm(Duration::from_secs(1), async |_| stand.before_broker.cut()).await;
        let struck = usize::try_from(stand.before_broker.struck()).unwrap();
        assert!(struck >= 3 * cuts, "{struck} connections were cut in {cuts} cuts");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_comes_back_empty() {
    survives("emptied", async |stand, services| {
        stand.has_copied(rows() / 2).await;
        stand.redis.lose_everything().await;
        until("somebody notices that everything was lost", MINUTE, async || {
            services.iter().any(|service| service.log().contains("the epoch has risen"))
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_connections() {
    survives("refused", async |stand, services| {
        stand.before_target.set(Weather::Refuse);
        tokio::time::sleep(storm() / 2).await;
        let mut paused = 0.0;
        for service in services.iter().filter(|service| service.name == "publishing-consumer") {
            paused += service.metric("fides_lanes_paused", &[]).await;
        }
        assert!(paused > 0.0, "lanes wait for the target");
        stand.before_target.set(Weather::Fair);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_after_every_tenth_write() {
    survives("failing", async |stand, _| {
        let mut target = stand.connect().await;
        let trigger = "CREATE TABLE written (id bigint, document copy, tx xid8); \
             CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO written VALUES (NEW.id, NEW, pg_current_xact_id()); RETURN NULL; END $$; \
             CREATE TRIGGER record AFTER INSERT OR UPDATE ON copy FOR EACH ROW EXECUTE FUNCTION record()";
        sqlx::raw_sql(trigger).execute(&mut target).await.unwrap();
        stand.before_target.set(Weather::CommitUnanswered(10));
        tokio::time::sleep(storm()).await;
        // A document is written a second time only where nobody knew that the first commit had taken effect.
        let repeated = "SELECT count(DISTINCT one.tx) FROM written one JOIN written other USING (id) \
                        WHERE one.tx < other.tx AND one.document IS NOT DISTINCT FROM other.document";
        until("several commits took effect whose answers were lost", MINUTE, async || {
            sqlx::query_scalar::<_, i64>(repeated).fetch_one(&mut target).await.unwrap() >= 3
        })
        .await;
        stand.before_target.set(Weather::Fair);
        assert!(stand.before_target.struck() >= 3, "{} answers were lost", stand.before_target.struck());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_slow() {
    survives("slow", async |stand, _| {
        let slow = Weather::Delay(Duration::from_millis(200));
        let proxies = [&stand.before_broker, &stand.before_redis, &stand.before_host, &stand.before_target];
        for proxy in proxies {
            proxy.set(slow);
        }
        tokio::time::sleep(storm()).await;
        // Where everything takes its time a part may not have been asked for anything yet.
        let late = async {
            while proxies.iter().any(|proxy| proxy.struck() == 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), late).await.expect("every part was late with something");
        for proxy in proxies {
            proxy.set(Weather::Fair);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_cut_off_from_redis() {
    survives("partition", async |stand, services| {
        // One consumer alone reaches Redis through a proxy that falls silent for longer than a lease.
        let alone = crate::proxy::Proxy::before(stand.redis.address).await;
        let config = stand.folder.path().join("alone.yaml");
        stand.configure(&config, alone.address);
        let mut lonely = Process::start("publishing-consumer", &config, 9);
        let others: Vec<&Process> = services.iter().filter(|it| it.name == "publishing-consumer").collect();
        let owned = async |it: &Process| it.metric("fides_lanes_owned", &[]).await;
        let by_others = async || join_all(others.iter().map(|it| owned(it))).await.iter().sum::<f64>();
        let started = Instant::now();
        let mut times = 0;
        while times < 2 || started.elapsed() < storm() {
            times += 1;
            until("it has its share", MINUTE, async || owned(&lonely).await >= 2.0).await;
            alone.set(Weather::Silence);
            until("it gives up its lanes", MINUTE, async || owned(&lonely).await < 1.0).await;
            until("the others have them all", MINUTE, async || by_others().await >= 8.0).await;
            assert!(owned(&lonely).await < 1.0, "a lane has one owner");
            alone.set(Weather::Fair);
        }
        assert!(alone.struck() > 0, "something was held back");
        assert!(lonely.is_alive());
        services.push(lonely);
        // Its way to Redis must stand as long as it lives.
        std::mem::forget(alone);
    })
    .await;
}
