//! What a log does not tell, and how that is found out.

use fides_connector_sqlite::{install_outbox, remove_outbox};
use fides_core::FaultKind;
use fides_core::port::{Gap, Opened};

use super::stand::{Stand, all, changes, map, next, reader, told};

const ITEM: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'a'), (2, 'b')";

fn missing(opened: &Opened) -> bool {
    matches!(opened.gap, Some(Gap::Missing(_)))
}

#[tokio::test]
async fn without_an_outbox_the_command_is_told_and_versions_are_drawn() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    assert_eq!(stand.host.lineage().await.unwrap().0, "sqlite:drawn");
    assert_eq!(stand.position(&selection).await, 5, "imports go on");
    let fault = stand.open(&selection, "a", None).await.map(drop).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("item") && fault.advice.unwrap().contains("fides init --events"));
    let concerns = stand.host.check_log(&selection, &reader("a")).await.unwrap();
    assert!(concerns[0].stops && concerns[0].mend.as_ref().unwrap().contains("fides init --events"), "{concerns:?}");
    assert_eq!(stand.host.log_lag(&reader("a")).await.unwrap(), None);
    stand.host.forget_log(&reader("a")).await.unwrap();

    assert_eq!(stand.install(&selection).await, ["item (id)"]);
    assert_eq!(stand.install(&selection).await, Vec::<String>::new(), "repeating it is harmless");
    assert!(stand.host.lineage().await.unwrap().0.starts_with("sqlite:outbox:"));
    assert_eq!(stand.host.check_log(&selection, &reader("a")).await.unwrap(), []);
    assert_eq!(stand.host.namespaces().await.unwrap().len(), 1, "the outbox is not a table of the host's");
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    stand.install(&selection).await;
    let first = stand.open(&selection, "a", None).await.unwrap();
    assert!(missing(&first), "what was before is not told");
    let mut log = first.log;
    stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
    let place = next(&mut *log).await.unwrap().place;
    log.release(place).await.unwrap();
    drop(log);
    stand.run("UPDATE item SET name = 'y' WHERE id = 2").await;
    stand.install(&selection).await;
    for _ in 0..2 {
        let mut again = stand.open(&selection, "a", Some(place)).await.unwrap();
        assert_eq!((again.gap, again.from), (None, place));
        assert_eq!(changes(&next(&mut *again.log).await.unwrap()), [told("2", r#"2 "y""#)]);
    }
}

#[tokio::test]
async fn an_outbox_that_is_made_anew_is_another_lineage_with_higher_positions() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    let (lineage, position) = (stand.host.lineage().await.unwrap(), stand.position(&selection).await);
    assert!(remove_outbox(&stand.path).await.unwrap());
    assert!(!remove_outbox(&stand.path).await.unwrap());
    assert_eq!(stand.number("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_fides%' ESCAPE '\\'").await, 0);
    stand.run("UPDATE item SET name = 'unseen'").await;
    let fault = next(&mut *log).await.map(drop).unwrap_err();
    assert!(fault.advice.unwrap().contains("fides init --events"));
    // The clock has moved on: an outbox begins at it.
    while stand.number("SELECT unixepoch() * 10000").await.cast_unsigned() <= position {
        tokio::task::yield_now().await;
    }
    stand.install(&selection).await;
    // A snapshot that belongs to the epoch of the outbox before.
    let old = stand.host.snapshot(&selection, fides_core::Version::scan(3, 5)).await.map(drop).unwrap_err();
    assert_eq!(old.kind, FaultKind::Transient, "{old}");
    assert_ne!(stand.host.lineage().await.unwrap(), lineage);
    assert!(stand.position(&selection).await > position);
    assert!(next(&mut *log).await.is_err());
    assert!(missing(&stand.open(&selection, "a", None).await.unwrap()));
}

#[tokio::test]
async fn a_trigger_that_is_gone_stops_the_log_and_its_return_is_a_gap() {
    for damage in [
        "DROP TRIGGER _fides_outbox_1_update",
        "DROP TABLE item; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)",
        "ALTER TABLE item RENAME TO old; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)",
    ] {
        let stand = Stand::new(ITEM).await;
        let selection = stand.selection("item", &["id"]).await;
        let mut log = stand.follow(&selection).await;
        stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
        let place = next(&mut *log).await.unwrap().place;
        let before = stand.position(&selection).await;
        stand.run(damage).await;
        stand.run("REPLACE INTO item VALUES (2, 'unseen')").await;
        let fault = next(&mut *log).await.map(drop).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Permanent, "{damage}: {fault}");
        assert!(fault.advice.unwrap().contains("fides init --events"), "{damage}");
        assert!(stand.open(&selection, "a", Some(place)).await.is_err(), "{damage}");
        assert!(stand.host.check_log(&selection, &reader("a")).await.unwrap()[0].stops, "{damage}");
        assert!(stand.position(&selection).await > before, "{damage}: an import mends it meanwhile");

        assert_eq!(stand.install(&selection).await, ["item (id)"], "{damage}");
        let mut opened = stand.open(&selection, "a", Some(place)).await.unwrap();
        assert!(missing(&opened), "{damage}");
        stand.run("UPDATE item SET name = 'seen' WHERE id = 2").await;
        assert_eq!(all(&stand, &mut *opened.log).await, map(&[told("2", r#"2 "seen""#)]), "{damage}");
    }
}

#[tokio::test]
async fn triggers_that_were_made_anew_meanwhile_end_an_open_log() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("DROP TRIGGER _fides_outbox_1_delete; DELETE FROM item WHERE id = 1").await;
    stand.install(&selection).await;
    assert_eq!(next(&mut *log).await.map(drop).unwrap_err().kind, FaultKind::Transient);
}

#[tokio::test]
async fn other_changes_of_the_schema_are_read_through() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand
        .run("ALTER TABLE item ADD COLUMN more TEXT; CREATE TABLE other (x); UPDATE item SET more = 'm' WHERE id = 1")
        .await;
    let mut other = stand.selection("other", &[]).await;
    other.key = vec!["x".to_owned()];
    install_outbox(&stand.path, &[other]).await.unwrap();
    stand.run("INSERT INTO other VALUES (5)").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[told("1", r#"1 "a""#)]));
}

#[tokio::test]
async fn a_restored_file_is_told_also_when_it_has_grown_since() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE item SET name = 'before'").await;
    let early = next(&mut *log).await.unwrap().place;
    log.release(early).await.unwrap();
    let backup = stand.folder.path().join("backup.db");
    stand.run(&format!("VACUUM INTO '{}'", backup.display())).await;
    stand.run("UPDATE item SET name = 'lost'").await;
    let place = next(&mut *log).await.unwrap().place;
    drop(log);

    let restored = Stand { path: backup.clone(), ..Stand::new("CREATE TABLE x (y)").await };
    let side =
        sqlx::sqlite::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&backup)).await;
    let host = fides_connector_sqlite::host(&backup, 4, true).await.unwrap();
    let restored = Stand { side: side.unwrap(), host, ..restored };
    let opened = restored.open(&selection, "a", Some(place)).await.unwrap();
    assert!(matches!(opened.gap, Some(Gap::Backward(_))), "{:?}", opened.gap);
    for _ in 0..5 {
        restored.run("UPDATE item SET name = 'new'").await;
    }
    let end = restored.number("SELECT max(sequence) FROM _fides_outbox").await.cast_unsigned();
    assert!(end > place >> 16, "it has grown past the place");
    let row = restored.number(&format!("SELECT nonce FROM _fides_outbox WHERE sequence = {}", place >> 16)).await;
    if row.cast_unsigned() == place & 0xffff {
        return; // one in 65536
    }
    let opened = restored.open(&selection, "a", Some(place)).await.unwrap();
    assert!(matches!(opened.gap, Some(Gap::Backward(_))), "{:?}", opened.gap);
    // From before the reader; asked twice, as after a crash.
    for _ in 0..2 {
        let opened = restored.open(&selection, "unknown", Some(early)).await.unwrap();
        assert!(matches!(opened.gap, Some(Gap::Backward(_))), "{:?}", opened.gap);
    }
}

#[tokio::test]
async fn a_view_is_refused() {
    let stand = Stand::new(&format!("{ITEM}; CREATE VIEW v AS SELECT * FROM item")).await;
    let selection = stand.selection("v", &["id"]).await;
    let fault = install_outbox(&stand.path, &[selection]).await.unwrap_err();
    assert!(fault.to_string().contains("not a table"), "{fault}");
    assert_eq!(stand.number("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_fides%' ESCAPE '\\'").await, 0);
}
