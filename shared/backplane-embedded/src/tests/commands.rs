use fides_core::FaultKind;
use fides_core::port::Expect;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::Place;

#[tokio::test]
async fn beside_an_owner_one_may_ask_and_serve_nothing() {
    let place = Place::new();
    let owner = place.open().await;
    assert!(crate::open_unless_in_use(&place.path(), &fides_core::Limits::default()).await.unwrap().is_none());
    let beside = crate::open_read_only(&place.path()).await.unwrap().admin();
    let fault = beside.serve().await.map(drop).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("reading only"), "{fault}");
    assert_eq!(beside.ask(b"1", 0).await.unwrap(), None);
    owner.backplane().state.put("k", b"v", Expect::Absent).await.unwrap().unwrap();
    drop(owner);
    // It waits for the next owner.
    let owner = crate::open_unless_in_use(&place.path(), &fides_core::Limits::default()).await.unwrap().unwrap();
    let mut desk = owner.admin().serve().await.unwrap();
    assert_eq!(desk.next().await.unwrap().body, "1");
}

#[tokio::test]
async fn too_many_commands_are_refused_and_old_answers_forgotten() {
    let place = Place::new();
    let owner = place.open().await;
    let admin = owner.admin();
    for number in 0..1_000 {
        assert_eq!(admin.ask(format!("{number}").as_bytes(), 0).await.unwrap(), None);
    }
    let fault = admin.ask(b"more", 0).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("1000 commands wait"), "{fault}");
    let mut desk = admin.serve().await.unwrap();
    for number in 0..1_000 {
        let request = desk.next().await.unwrap();
        assert_eq!(request.body, format!("{number}"));
        desk.answer(request.tag, b"").await.unwrap();
        if number % 2 == 0 {
            admin.ask(b"more", 0).await.unwrap();
        }
    }
    let mut transaction = owner.file.begin().await.unwrap();
    let kept = sqlx::query("SELECT COUNT(*), COUNT(answer) FROM command").fetch_one(&mut *transaction).await.unwrap();
    let (kept, answered): (i64, i64) = (kept.get(0), kept.get(1));
    transaction.roll_back().await.unwrap();
    assert_eq!(kept - answered, 500);
    assert!(answered <= 1_000, "{answered} answers are kept");
}

#[tokio::test]
async fn a_file_of_an_earlier_release_gets_the_table() {
    let place = Place::new();
    drop(place.open().await);
    let raw = async |sql: &'static str| {
        let mut connection = SqliteConnectOptions::new().filename(place.path()).connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    raw("DROP TABLE command").await;
    let beside = crate::open_read_only(&place.path()).await.unwrap().admin();
    assert_eq!(beside.ask(b"1", 0).await.unwrap(), None);
    raw("DROP TABLE command").await;
    let owner = place.open().await.admin();
    assert_eq!(owner.ask(b"2", 0).await.unwrap(), None);
}
