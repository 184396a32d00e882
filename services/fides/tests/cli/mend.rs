//! Repairing a target, and rebuilding what Fides knew of it.

use serde_json::Value;

use crate::shop::{CONFIG, Shop};
use crate::staying::{Staying, until};

/// A hundred edits of a target of 200 documents: 34 changed, 33 deleted, 33 added.
fn edited() -> Shop {
    let shop = Shop::new();
    shop.on_host(
        "DELETE FROM item; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO item SELECT i, 'n' || i, '1.5' FROM n",
    );
    shop.json(&["sync", "--once", "--json"]);
    shop.on_target(
        "UPDATE items SET name = 'poison' WHERE id <= 34; DELETE FROM items WHERE id > 34 AND id <= 67;
         WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 1033)
         INSERT INTO items (id, name) SELECT i, 'stray' FROM n",
    );
    shop
}

fn numbers(report: &Value, names: [&str; 3]) -> [u64; 3] {
    names.map(|name| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}")))
}

#[test]
fn a_hundred_edits_of_the_target_are_named_and_mended() {
    let shop = edited();
    let found = shop.run(&["verify", "items", "--json", "--limit", "1000"]);
    assert_eq!(found.status, 1, "{}", found.stderr);
    let found = found.json();
    assert_eq!(numbers(&found, ["different", "missing", "extra"]), [34, 33, 33]);
    let keys: Vec<&str> =
        found["differences"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    let expected: Vec<String> = (1..=67).chain(1001..=1033).map(|id: u32| id.to_string()).collect();
    assert_eq!(keys, expected);

    let report = shop.json(&["verify", "items", "--repair", "--json"]);
    assert_eq!(numbers(&report, ["sent", "deleted", "mended"]), [67, 33, 100]);
    let equal = shop.run(&["verify", "items", "--repair"]);
    assert!(equal.status == 0 && equal.stdout.contains("both sides are equal: 200 documents"), "{}", equal.stdout);
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 0);
}

#[test]
fn what_a_repair_leaves_is_its_exit_status() {
    let shop = edited();
    shop.configure(&format!("limits: {{ delete_count_min: 5 }}\n{CONFIG}"));
    let ran = shop.run(&["verify", "items", "--repair"]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("33 deletions now"), "{}", ran.stderr);
    for expected in ["67 records sent again", "67 mended", "Not mended", "the sides differ in 33 records"] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
}

#[test]
fn beside_a_sync_nothing_is_repaired_or_rebuilt() {
    let shop = Shop::new();
    let _staying = Staying::start(&shop);
    for command in [&["verify", "items", "--repair"][..], &["rebuild-hashes", "items"]] {
        let ran = shop.run(command);
        assert_eq!(ran.status, 69, "{}", ran.stderr);
        assert!(ran.stderr.contains("in use by process"), "{}", ran.stderr);
    }
}

fn lose_the_state(shop: &Shop) {
    for entry in std::fs::read_dir(shop.path(".")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state.fides")) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn after_a_lost_state_file_an_unchanged_host_sends_nothing() {
    let shop = Shop::new();
    shop.json(&["sync", "--once", "--json"]);
    lose_the_state(&shop);
    let report = shop.json(&["rebuild-hashes", "items", "--json"]);
    assert_eq!(numbers(&report, ["host_records", "marked", "differing"]), [3, 3, 0]);
    let synced = shop.json(&["sync", "--once", "--json"]);
    assert_eq!((&synced[0]["read"], &synced[0]["published"]), (&3.into(), &0.into()), "{synced}");

    // An import does it by itself, and sends what has changed.
    lose_the_state(&shop);
    shop.on_host("UPDATE item SET name = 'butter' WHERE id = 2; DELETE FROM item WHERE id = 3");
    shop.on_target("UPDATE items SET name = 'poison' WHERE id = 1");
    let synced = shop.json(&["sync", "--once", "--json"]);
    // Two documents, and a deletion.
    assert_eq!((&synced[0]["published"], &synced[0]["deleted"]), (&3.into(), &1.into()), "{synced}");
    assert_eq!(shop.target_names(), ["apple", "butter"]);
}

#[test]
fn a_target_that_was_restored_is_told_by_a_person() {
    let shop = Shop::new();
    shop.json(&["sync", "--once", "--json"]);
    shop.on_target("UPDATE items SET name = 'of yesterday' WHERE id = 1");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 0, "the marks do not know of it");
    let told = shop.run(&["rebuild-hashes", "items"]);
    assert_eq!(told.status, 0, "{}", told.stderr);
    assert!(told.stdout.contains("2 of 3 records marked") && told.stdout.contains("1 record for"), "{}", told.stdout);
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 1);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
}

#[test]
fn drift_is_found_by_schedule_and_told_by_status() {
    let shop = Shop::new();
    shop.configure(&CONFIG.replace("    create: true\n", "    create: true\n    verify: \"* * * * * *\"\n"));
    shop.json(&["sync", "--once", "--json"]);
    shop.on_target("DELETE FROM items WHERE id = 2");
    let _staying = Staying::start(&shop);
    until("a verification", || shop.json(&["status", "--json"])[0]["verified"]["drifted"] == 1);
    let told = shop.run(&["status"]);
    assert!(told.stdout.contains("1 record drifted (2)") && told.stdout.contains("--repair"), "{}", told.stdout);
}
