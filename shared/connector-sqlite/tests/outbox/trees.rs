//! Documents made of several tables.

use super::stand::{Stand, all, changes, map, next, told};

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, buyer TEXT);
    CREATE TABLE line (id INTEGER PRIMARY KEY, order_id INT, what TEXT);
    CREATE TABLE part (line INT, no INT, PRIMARY KEY (line, no));
    INSERT INTO orders VALUES (1, 'x'), (2, 'y');
    INSERT INTO line VALUES (10, 1, 'nut'), (20, 2, 'bolt'); INSERT INTO part VALUES (10, 1)";

async fn orders() -> (Stand, fides_core::Selection) {
    let stand = Stand::new(ORDERS).await;
    let mut selection = stand.selection("orders", &["id"]).await;
    let parts = stand.include("part", &[("line", "id")], Vec::new()).await;
    selection.includes = vec![stand.include("line", &[("order_id", "id")], vec![parts]).await];
    (stand, selection)
}

async fn keys(stand: &Stand, log: &mut dyn fides_core::port::Log) -> Vec<String> {
    all(stand, log).await.into_keys().collect()
}

#[tokio::test]
async fn a_child_tells_of_its_root_and_of_the_one_that_it_left() {
    let (stand, selection) = orders().await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE line SET order_id = 2 WHERE id = 10").await;
    let found = all(&stand, &mut *log).await;
    let nut = r#"{"id":10,"order_id":2,"what":"nut","part":[{"line":10,"no":1}]}"#;
    let bolt = r#"{"id":20,"order_id":2,"what":"bolt","part":[]}"#;
    assert_eq!(found, map(&[told("1", r#"1 "x" []"#), told("2", &format!(r#"2 "y" [{nut},{bolt}]"#))]));
}

#[tokio::test]
async fn every_way_of_writing_a_child_is_told() {
    let (stand, selection) = orders().await;
    let mut log = stand.follow(&selection).await;
    for (sql, expected) in [
        ("INSERT INTO line VALUES (11, 1, 'cog')", vec!["1"]),
        ("DELETE FROM line WHERE id = 20", vec!["2"]),
        ("REPLACE INTO line VALUES (11, 2, 'cog')", vec!["1", "2"]),
        ("UPDATE OR REPLACE line SET id = 10 WHERE id = 11", vec!["1", "2"]),
        ("INSERT INTO line VALUES (30, NULL, 'none'), (31, 99, 'nobody')", vec![]),
        ("UPDATE line SET order_id = 1 WHERE id = 30", vec!["1"]),
        ("UPDATE line SET order_id = NULL WHERE id = 30", vec!["1"]),
        ("INSERT INTO part VALUES (10, 7)", vec!["2"]),
        ("UPDATE part SET line = 31 WHERE no = 7", vec!["2"]),
        ("DELETE FROM part", vec!["2"]),
    ] {
        stand.run(sql).await;
        let mut found = keys(&stand, &mut *log).await;
        if sql.starts_with("DELETE FROM part") {
            assert!(found.is_empty() || found == ["2"], "part 10 left line 10 with it: {found:?}");
            found = vec!["2".to_owned()];
        }
        assert_eq!(found, expected, "{sql}");
    }
}

#[tokio::test]
async fn what_is_joined_by_a_collation_is_found_by_it() {
    let stand = Stand::new(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, kind TEXT); CREATE TABLE kind (code TEXT COLLATE NOCASE PRIMARY KEY, name TEXT);
         CREATE TABLE size (item TEXT, cm INT); INSERT INTO item VALUES (1, 'Nut'), (2, 'BOLT'), (3, 'nut');
         INSERT INTO kind VALUES ('nut', 'Nuts'), ('bolt', 'Bolts'); INSERT INTO size VALUES ('1', 7)",
    )
    .await;
    let mut selection = stand.selection("item", &["id"]).await;
    let kinds = stand.include("kind", &[("code", "kind")], Vec::new()).await;
    selection.includes = vec![kinds, stand.include("size", &[("item", "id")], Vec::new()).await];
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE kind SET name = 'N' WHERE code = 'nut'").await;
    assert_eq!(keys(&stand, &mut *log).await, ["1", "3"]);
    stand.run("UPDATE size SET cm = 8").await;
    assert_eq!(keys(&stand, &mut *log).await, ["1"], "a text is compared with a number as a number");
}

#[tokio::test]
async fn many_roots_of_one_change_come_in_pages() {
    let stand = Stand::new(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, kind INT); CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT);
         CREATE INDEX by_kind ON item (kind); INSERT INTO kind VALUES (1, 'a'), (2, 'b');
         WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 25) INSERT INTO item SELECT i, 1 FROM n",
    )
    .await;
    let mut selection = stand.selection("item", &["id"]).await;
    selection.page_records_max = 10;
    selection.includes = vec![stand.include("kind", &[("id", "kind")], Vec::new()).await];
    let mut log = stand.follow(&selection).await;
    stand.run("BEGIN; UPDATE kind SET name = 'A' WHERE id = 1; UPDATE item SET kind = 2 WHERE id = 3; COMMIT").await;
    let (mut found, mut places) = (std::collections::BTreeMap::new(), Vec::new());
    while found.len() < 25 {
        let page = next(&mut *log).await.unwrap();
        assert!(page.changes.len() <= 10, "{}", page.changes.len());
        found.extend(changes(&page));
        places.push(page.place);
    }
    assert_eq!(found["3"], told("3", r#"3 2 [{"id":2,"name":"b"}]"#).1);
    assert_eq!(found["25"], told("25", r#"25 1 [{"id":1,"name":"A"}]"#).1);
    let end = stand.number("SELECT max(sequence) FROM _fides_outbox").await.cast_unsigned();
    assert!(places.len() >= 3 && places[..places.len() - 1].iter().all(|place| place >> 16 < end), "{places:?}");
}
