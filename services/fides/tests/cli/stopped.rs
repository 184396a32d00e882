//! What stops a sync, or one record of it: told so that it can be mended, and the next run goes on.

use crate::shop::{CONFIG, Shop};

/// Items whose key is no key of their table.
fn unkeyed(rows: &str) -> Shop {
    let shop = Shop::new();
    shop.on_host(&format!(
        "DROP TABLE item; CREATE TABLE item (id INTEGER, name TEXT NOT NULL, price TEXT);
         CREATE INDEX by_id ON item (id); INSERT INTO item VALUES {rows}"
    ));
    shop
}

#[test]
fn a_key_that_is_null_stops_the_import_until_it_is_mended() {
    let shop = unkeyed("(1, 'apple', '1'), (NULL, 'bread', '2'), (3, 'cheese', '3')");
    for _ in 0..2 {
        let ran = shop.run(&["sync", "--once"]);
        assert_eq!(ran.status, 65, "{}", ran.stderr);
        assert!(ran.stderr.contains("key column item.id holds NULL"), "{}", ran.stderr);
        assert!(ran.stderr.contains("NOT NULL"), "it says what can be done: {}", ran.stderr);
    }
    shop.on_host("UPDATE item SET id = 2 WHERE id IS NULL");
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
}

#[test]
fn a_key_that_is_not_unique_stops_the_import_until_it_is_mended() {
    let shop = unkeyed("(1, 'apple', '1'), (2, 'bread', '2'), (2, 'brezel', '2'), (3, 'cheese', '3')");
    let pages = "limits: { page_records_max: 2 }\n";
    shop.configure(&(CONFIG.to_owned() + pages));
    let ran = shop.run(&["sync", "--once"]);
    assert_eq!(ran.status, 65, "{}", ran.stderr);
    for part in ["table item", "key 2 is not unique", "unique and not null"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    shop.on_host("UPDATE item SET id = 4 WHERE name = 'brezel'");
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese", "brezel"]);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
}

#[test]
fn a_value_that_the_target_cannot_hold_stops_its_record_alone() {
    for (rule, wrong, said) in [
        ("price TEXT NOT NULL", "NULL", "NOT NULL constraint failed: items.price"),
        ("price TEXT CHECK (price <> '66.60')", "'66.60'", "CHECK constraint failed"),
    ] {
        let shop = Shop::new();
        shop.configure(&CONFIG.replace("create: true", "create: false"));
        shop.on_target(&format!("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, {rule})"));
        shop.on_host(&format!("UPDATE item SET price = {wrong} WHERE id = 2"));
        assert_eq!(shop.run(&["check", "--connect"]).status, 0, "the records are not looked at");
        let ran = shop.run(&["sync", "--once", "--json"]);
        assert_eq!(ran.status, 2, "{rule}: {}", ran.stderr);
        assert_eq!((&ran.json()[0]["dead"], &ran.json()[0]["written"]), (&1.into(), &2.into()), "{rule}");
        assert!(ran.stderr.contains("1 dead letter") && ran.stderr.contains("fides dead list items"), "{}", ran.stderr);
        assert_eq!(shop.target_names(), ["apple", "cheese"]);
        let shown = shop.run(&["dead", "show", "items", "2"]);
        assert!(shown.stdout.contains(said), "{rule}: {}", shown.stdout);

        shop.on_host("UPDATE item SET price = '3.20' WHERE id = 2");
        assert_eq!(shop.run(&["sync", "--once"]).status, 0, "{rule}");
        assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
    }
}
