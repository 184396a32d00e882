//! The suite of [`DeadLetters`](fides_core::port::DeadLetters).

use fides_core::port::DeadLetter;
use fides_core::{Key, PipelineId, Value};

use super::{Stores, key, suite};

suite![
    a_letter_comes_back_whole,
    the_latest_reason_wins_and_attempts_add_up,
    letters_are_listed_in_key_order,
    pipelines_do_not_mix,
    removed_letters_are_gone,
    letters_survive_a_kill,
];

fn pipeline() -> PipelineId {
    PipelineId::new("dead")
}

fn letter(id: i64) -> DeadLetter {
    DeadLetter {
        key: key(id),
        reason: format!("größer als die Spalte: {id}"),
        record: r#"{"a":"\u0000\"'"}"#.into(),
        attempts: 2,
        first_ms: 1_000,
        last_ms: 1_000,
        trace: Some("00-trace".into()),
    }
}

async fn a_letter_comes_back_whole(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    let composite = Key::encode(&[Value::String("a\0b".into()), Value::I64(-1)]).expect("text and numbers are keys");
    let letters = [
        DeadLetter { trace: None, attempts: u32::MAX, last_ms: u64::MAX, ..letter(1) },
        DeadLetter { key: composite, record: String::new(), ..letter(0) },
    ];
    dead.put(&pipeline(), &letters).await.unwrap();
    for letter in letters {
        assert_eq!(dead.get(&pipeline(), &letter.key).await.unwrap(), Some(letter));
    }
    assert_eq!(dead.get(&pipeline(), &key(99)).await.unwrap(), None);
}

async fn the_latest_reason_wins_and_attempts_add_up(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    let again = |at_ms, reason: &str| DeadLetter {
        reason: reason.into(),
        record: "{}".into(),
        attempts: 3,
        first_ms: at_ms,
        last_ms: at_ms,
        trace: None,
        ..letter(1)
    };
    dead.put(&pipeline(), &[letter(1)]).await.unwrap();
    dead.put(&pipeline(), &[again(2_000, "second")]).await.unwrap();
    let merged = DeadLetter { attempts: 5, first_ms: 1_000, ..again(2_000, "second") };
    assert_eq!(dead.get(&pipeline(), &key(1)).await.unwrap(), Some(merged));
    dead.put(&pipeline(), &[again(3_000, "third"), again(4_000, "fourth")]).await.unwrap();
    let merged = DeadLetter { attempts: 11, first_ms: 1_000, ..again(4_000, "fourth") };
    assert_eq!(dead.get(&pipeline(), &key(1)).await.unwrap(), Some(merged));
    dead.put(&pipeline(), &[DeadLetter { attempts: u32::MAX, ..again(5_000, "last") }]).await.unwrap();
    let attempts = dead.get(&pipeline(), &key(1)).await.unwrap().map(|letter| letter.attempts);
    assert_eq!(attempts, Some(u32::MAX), "a count that is full stays so");
    assert_eq!(dead.count(&pipeline()).await.unwrap(), 1, "one per key");
}

async fn letters_are_listed_in_key_order(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    let ids = [300, -5, 7, 0, i64::MAX, i64::MIN];
    dead.put(&pipeline(), &ids.map(letter)).await.unwrap();
    let mut sorted = ids;
    sorted.sort_unstable();
    let expected = sorted.map(letter);
    assert_eq!(dead.list(&pipeline(), None, 100).await.unwrap(), expected);
    assert_eq!(dead.list(&pipeline(), None, 2).await.unwrap(), expected[..2]);
    assert_eq!(dead.list(&pipeline(), Some(&key(-5)), 2).await.unwrap(), expected[2..4]);
    assert_eq!(
        dead.list(&pipeline(), Some(&key(1)), 100).await.unwrap(),
        expected[3..],
        "after a key without a letter"
    );
    assert_eq!(dead.list(&pipeline(), Some(&key(i64::MAX)), 100).await.unwrap(), []);
    assert_eq!(dead.list(&pipeline(), None, 0).await.unwrap(), []);
}

async fn pipelines_do_not_mix(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    let other = PipelineId::new("dead2");
    dead.put(&pipeline(), &[letter(1)]).await.unwrap();
    dead.put(&other, &[letter(1), letter(2)]).await.unwrap();
    dead.remove(&other, &[key(1)]).await.unwrap();
    assert_eq!(dead.list(&pipeline(), None, 9).await.unwrap(), [letter(1)]);
    assert_eq!(dead.list(&other, None, 9).await.unwrap(), [letter(2)]);
    assert_eq!(dead.count(&PipelineId::new("dea")).await.unwrap(), 0);
}

async fn removed_letters_are_gone(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    dead.put(&pipeline(), &[letter(1), letter(2), letter(3)]).await.unwrap();
    dead.remove(&pipeline(), &[key(3), key(99), key(1), key(1)]).await.unwrap();
    dead.remove(&pipeline(), &[]).await.unwrap();
    dead.put(&pipeline(), &[]).await.unwrap();
    assert_eq!(dead.list(&pipeline(), None, 9).await.unwrap(), [letter(2)]);
    assert_eq!(dead.get(&pipeline(), &key(1)).await.unwrap(), None);
    dead.put(&pipeline(), &[letter(1)]).await.unwrap();
    let attempts = dead.get(&pipeline(), &key(1)).await.unwrap().map(|letter| letter.attempts);
    assert_eq!(attempts, Some(2), "a new letter begins anew");
    assert_eq!(dead.count(&pipeline()).await.unwrap(), 2);
}

async fn letters_survive_a_kill(stores: &mut dyn Stores) {
    let dead = stores.open().await.dead;
    dead.put(&pipeline(), &[letter(1), letter(2)]).await.unwrap();
    dead.remove(&pipeline(), &[key(2)]).await.unwrap();
    drop(dead);
    let dead = stores.open().await.dead;
    assert_eq!(dead.list(&pipeline(), None, 9).await.unwrap(), [letter(1)]);
}
