//! Memory of the marks, beside that of a plain HASH that holds the same.

use fides_core::{Fingerprint, Key, Limits, Mark, PipelineId, Value, Version};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use secrecy::SecretString;

pub const RECORDS: u64 = 1_000_000;
/// Marks of one call.
const PORTION: usize = 10_000;

/// A kind of keys.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    key: fn(u64) -> Value<'static>,
}

pub const KINDS: [Kind; 3] = [
    Kind { name: "bigint", key: |number| Value::I64(number.cast_signed()) },
    Kind { name: "uuid", key: |number| Value::Uuid(fastrand::Rng::with_seed(number).u128(..).to_be_bytes()) },
    Kind { name: "text (customer-0000000001)", key: |number| Value::String(format!("customer-{number:010}").into()) },
];

/// Bytes of memory per record: of the marks, and of a HASH. Empties the Redis.
pub async fn memory(url: &str, kind: Kind) -> (f64, f64) {
    let client = redis::Client::open(url).unwrap();
    // Emptying a large Redis takes as long as it takes.
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mark = |number| {
        let mark = Mark::present(Version::scan(1_700_000_000, 1 << 40), Fingerprint(random.u128(..)));
        (Key::encode(&[(kind.key)(number)]).unwrap(), mark)
    };
    let mut marks: Vec<(Key, Mark)> = (0..RECORDS).map(mark).collect();
    // An import reads the host in the order of its keys.
    marks.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));

    let before = emptied(&mut connection).await;
    let settings = fides_backplane_redis::Settings::new(SecretString::from(url.to_owned()));
    let hashes = fides_backplane_redis::connect(settings, &Limits::default()).await.unwrap().hashes();
    hashes.incarnation().await.unwrap();
    let pipeline = PipelineId::new("bench");
    for portion in marks.chunks(PORTION) {
        hashes.advance(&pipeline, portion).await.unwrap();
    }
    assert_eq!(hashes.size(&pipeline).await.unwrap().0, RECORDS);
    drop(hashes);
    let fides = used_memory(&mut connection).await.saturating_sub(before);

    let before = emptied(&mut connection).await;
    for portion in marks.chunks(PORTION) {
        let mut set = redis::cmd("HSET");
        set.arg("plain");
        for (key, mark) in portion {
            let Version { epoch, position, sequence } = mark.version;
            let mut value = [epoch.to_be_bytes().as_slice(), &position.to_be_bytes(), &sequence.to_be_bytes()].concat();
            value.extend_from_slice(&mark.fingerprint.unwrap().0.to_be_bytes());
            set.arg(key.as_bytes()).arg(value);
        }
        set.exec_async(&mut connection).await.unwrap();
    }
    let plain = used_memory(&mut connection).await.saturating_sub(before);
    emptied(&mut connection).await;
    (fides as f64 / RECORDS as f64, plain as f64 / RECORDS as f64)
}

/// Empties the Redis; the memory that it uses then.
async fn emptied(connection: &mut MultiplexedConnection) -> u64 {
    redis::cmd("FLUSHALL").arg("SYNC").exec_async(connection).await.unwrap();
    used_memory(connection).await
}

async fn used_memory(connection: &mut MultiplexedConnection) -> u64 {
    redis::cmd("MEMORY").arg("PURGE").exec_async(connection).await.unwrap();
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}
