//! What the backplane costs, beside what broker and store give a program that does nothing else. Asserts nothing of it.
//!
//! `tests/bench/backplane`

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // a measurement, not a part of the product

mod lanes;
mod marks;
mod plain;

use std::time::Instant;

#[tokio::main]
async fn main() {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("run this through tests/bench/backplane"));
    let (amqp, redis) = (variable("FIDES_TEST_AMQP_URL"), variable("FIDES_TEST_REDIS_URL"));

    let portions = lanes::portions();
    let messages = lanes::messages(&portions);
    let (count, records) = (messages.len(), lanes::RECORDS);
    let bytes = messages.iter().map(|(_, body)| body.len()).sum::<usize>() / count;
    println!(
        "RabbitMQ: {records} records in {count} messages of {bytes} bytes on average, {} quorum queues,",
        lanes::LANES
    );
    println!("persistent, confirmed in windows of {} messages; records per second\n", lanes::window());
    let plain = plain::rates(&amqp, &messages).await;
    let product = lanes::rates(&amqp, &redis, portions).await;
    println!("{:<44} {:>9} {:>8} {:>9} {:>8}", "", "published", "ratio", "consumed", "ratio");
    row("plain lapin", &plain, &plain);
    row("fides, queue alone", &product.queue, &plain);
    row("fides, a lane whose target costs nothing", &product.lane, &plain);

    println!("\nRedis: bytes of memory per record, {} records\n", marks::RECORDS);
    println!("{:<44} {:>9} {:>9} {:>8}", "key", "fides", "plain", "ratio");
    for kind in marks::KINDS {
        let (fides, plain) = marks::memory(&redis, kind).await;
        println!("{:<44} {fides:>9.1} {plain:>9.1} {:>8.2}", kind.name, fides / plain);
    }
    println!("\nplain: one HSET field per record in one HASH, version and fingerprint as its value");
}

/// Seconds that something took for all records.
pub struct Seconds {
    /// Until every message was confirmed, where that was measured.
    pub published: Option<f64>,
    /// Until every delivery was settled.
    pub consumed: f64,
}

fn row(name: &str, seconds: &Seconds, raw: &Seconds) {
    let rate = |seconds: f64| format!("{:.0}k", lanes::RECORDS as f64 / seconds / 1_000.0);
    let ratio = |own: f64, raw: f64| format!("{:.2}", raw / own);
    let shown = |own: Option<f64>, raw: Option<f64>| match (own, raw) {
        (Some(own), Some(raw)) => (rate(own), ratio(own, raw)),
        _ => (String::new(), String::new()),
    };
    let (published, published_ratio) = shown(seconds.published, raw.published);
    let (consumed, consumed_ratio) = shown(Some(seconds.consumed), Some(raw.consumed));
    println!("{name:<44} {published:>9} {published_ratio:>8} {consumed:>9} {consumed_ratio:>8}");
}

/// What something gave, and how long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, f64) {
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed().as_secs_f64())
}
