//! A table is copied while a writer changes it and one thing breaks; afterwards both sides are equal.

use std::time::{Duration, Instant};

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::writer::Writer;

/// How long things stay broken.
fn storm() -> Duration {
    Duration::from_secs(if std::env::var_os("FIDES_TEST_LONG").is_some() { 60 } else { 12 })
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
        let mut killed = 0;
        during_the_storm(Duration::from_secs(2), async |_| {
            let victim = &mut services[random.usize(..5)];
            killed += usize::from(victim.kill());
            victim.restart();
        })
        .await;
        assert!(killed >= 4, "only {killed} were alive when they were killed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts() {
    survives("restart", async |_, services| {
        let restart = std::env::var("FIDES_TEST_RABBITMQ_RESTART").expect("run this through tests/parts/rabbitmq");
        let status = tokio::process::Command::new(restart).status().await.unwrap();
        assert!(status.success());
        let noticed = services.iter().filter(|service| service.log().contains("RabbitMQ")).count();
        assert!(noticed > 0, "somebody missed the broker");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_broker_that_are_cut_every_second() {
    survives("cut", async |stand, _| {
        during_the_storm(Duration::from_secs(1), async |_| stand.before_broker.cut()).await;
        assert!(stand.before_broker.struck() >= 20, "{} connections were cut", stand.before_broker.struck());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_comes_back_empty() {
    survives("emptied", async |stand, services| {
        stand.has_copied(rows() / 2).await;
        stand.redis.lose_everything().await;
        let deadline = Instant::now() + Duration::from_mins(1);
        while !services.iter().any(|service| service.log().contains("the epoch has risen")) {
            assert!(Instant::now() < deadline, "nobody noticed that everything was lost");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
        stand.before_target.set(Weather::CommitUnanswered(10));
        tokio::time::sleep(storm()).await;
        stand.before_target.set(Weather::Fair);
        assert!(stand.before_target.struck() > 0, "answers were lost");
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
        while lonely.metric("fides_lanes_owned", &[]).await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        during_the_storm(Duration::from_secs(4), async |times| {
            alone.set(if times.is_multiple_of(2) { Weather::Silence } else { Weather::Fair });
        })
        .await;
        assert!(alone.struck() > 0, "something was held back");
        alone.set(Weather::Fair);
        assert!(lonely.is_alive());
        services.push(lonely);
        // Its way to Redis must stand as long as it lives.
        std::mem::forget(alone);
    })
    .await;
}
