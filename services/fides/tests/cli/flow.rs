use crate::shop::{CONFIG, Shop};

#[test]
fn a_sync_moves_only_what_changed() {
    let shop = Shop::new();
    let first = shop.json(&["sync", "--once", "--json"]);
    assert_eq!((&first[0]["read"], &first[0]["published"], &first[0]["written"]), (&3.into(), &3.into(), &3.into()));
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);

    shop.on_host("UPDATE item SET name = 'butter' WHERE id = 2; DELETE FROM item WHERE id = 3");
    let second = shop.json(&["sync", "--once", "--json", "items"]);
    assert_eq!((&second[0]["published"], &second[0]["deleted"]), (&2.into(), &1.into()), "{second}");
    assert_eq!(shop.target_names(), ["apple", "butter"]);

    let third = shop.json(&["sync", "--once", "--json"]);
    assert_eq!((&third[0]["published"], &third[0]["avoided_percent"]), (&0.into(), &100.0.into()), "{third}");

    let full = shop.json(&["sync", "--once", "--full", "--json"]);
    assert_eq!(full[0]["published"], 2, "{full}");
    let table = shop.run(&["sync", "--once"]);
    assert!(table.stdout.contains("avoided") && table.stdout.contains("100.0 %"), "{}", table.stdout);
}

#[test]
fn a_refused_clean_up_is_told_with_its_reason() {
    let shop = Shop::new();
    shop.json(&["sync", "--once", "--json"]);
    shop.on_host("DELETE FROM item");
    let ran = shop.run(&["sync", "--once"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning") && ran.stderr.contains("empty"), "{}", ran.stderr);
    assert_eq!(shop.target_names().len(), 3);
    assert!(shop.run(&["status"]).stdout.contains("empty"));
}

#[test]
fn a_plan_counts_and_writes_nothing() {
    let shop = Shop::new();
    let before = shop.json(&["plan", "items", "--json"]);
    assert_eq!((&before["create"], &before["change"], &before["delete"]), (&3.into(), &0.into(), &0.into()));
    assert!(!shop.path("state.fides").exists() && !shop.path("target.sqlite").exists());

    shop.json(&["sync", "--once", "--json"]);
    shop.on_host(
        "UPDATE item SET price = '0.60' WHERE id = 1; DELETE FROM item WHERE id = 2;
         INSERT INTO item VALUES (4, 'dates', '7')",
    );
    let plan = shop.json(&["plan", "items", "--samples", "1", "--json"]);
    for (what, expected) in [("read", 3), ("unchanged", 1), ("create", 1), ("change", 1), ("delete", 1), ("reject", 0)]
    {
        assert_eq!(plan[what], expected, "{what}: {plan}");
    }
    assert_eq!(plan["samples"].as_array().unwrap().len(), 3, "{plan}");
    let told = shop.run(&["plan", "items"]);
    assert_eq!(told.status, 0, "{}", told.stderr);
    for expected in ["before", "price: 0.50 → 0.60", "dates", "Nothing was written."] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
    assert_eq!(shop.json(&["plan", "items", "--samples", "1", "--json"]), plan, "a plan changes no state");
}

#[test]
fn verify_lists_what_somebody_else_did_to_the_target() {
    let shop = Shop::new();
    shop.json(&["sync", "--once", "--json"]);
    let equal = shop.run(&["verify", "items"]);
    assert_eq!(equal.status, 0, "{}", equal.stderr);
    assert!(equal.stdout.contains("both sides are equal: 3 documents"), "{}", equal.stdout);

    shop.on_target(
        "UPDATE items SET name = 'poison' WHERE id = 1; DELETE FROM items WHERE id = 2;
         INSERT INTO items (id, name) VALUES (9, 'stray')",
    );
    let report = shop.run(&["verify", "items", "--json"]);
    assert_eq!(report.status, 1, "{}", report.stderr);
    let report = report.json();
    assert_eq!((&report["different"], &report["missing"], &report["extra"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(report["differences"][0]["fields"][0]["field"], "name");

    let told = shop.run(&["verify", "items"]);
    assert_eq!(told.status, 1);
    for expected in ["poison", "apple", "2    missing", "9    extra", "3 records"] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    let short = shop.run(&["verify", "items", "--limit", "1"]);
    assert!(short.stdout.contains("2 more") && !short.stdout.contains("2    missing"), "{}", short.stdout);
}

#[test]
fn explain_tells_a_known_and_an_unknown_key() {
    let shop = Shop::new();
    assert_eq!(shop.json(&["explain", "items", "1", "--json"])["verdict"], "not imported yet");
    shop.json(&["sync", "--once", "--json"]);
    let known = shop.json(&["explain", "items", "1", "--json"]);
    assert_eq!((&known["verdict"], &known["mark_is_current"]), (&"in step".into(), &true.into()), "{known}");
    assert!(known["target"].as_str().unwrap().contains("apple"), "{known}");
    let told = shop.run(&["explain", "items", "1"]);
    assert!(told.stdout.contains("items 1: in step") && told.stdout.contains("apple"), "{}", told.stdout);

    let unknown = shop.run(&["explain", "items", "-7"]);
    assert_eq!(unknown.status, 0, "{}", unknown.stderr);
    assert!(unknown.stdout.contains("neither the host nor the marks"), "{}", unknown.stdout);

    let wrong = shop.run(&["explain", "items", "seven"]);
    assert_eq!(wrong.status, 65);
    assert!(wrong.stderr.contains("seven") && wrong.stderr.contains("id (i64)"), "{}", wrong.stderr);
}

#[test]
fn status_tells_before_and_after_the_first_run() {
    let shop = Shop::new();
    let before = shop.json(&["status", "--json"]);
    assert_eq!((&before[0]["pipeline"], &before[0]["run"]), (&"items".into(), &serde_json::Value::Null));
    assert!(shop.run(&["status"]).stdout.contains("never"));
    shop.json(&["sync", "--once", "--json"]);
    let after = shop.json(&["status", "--json"]);
    assert_eq!((&after[0]["records"], &after[0]["run"]["counts"]["published"]), (&3.into(), &3.into()), "{after}");
}

#[test]
fn a_document_that_is_newer_at_the_target_is_left_and_told() {
    let shop = Shop::new();
    shop.configure(&CONFIG.replace("    mapping:", "    version_field: version\n    mapping:"));
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    let newest = "f".repeat(32);
    shop.on_target(&format!("UPDATE items SET name = 'theirs', version = '{newest}' WHERE id = 1"));
    shop.on_host("UPDATE item SET name = 'ours' WHERE id IN (1, 2)");
    let ran = shop.run(&["sync", "--once", "--json"]);
    assert_eq!((&ran.json()[0]["newer"], &ran.json()[0]["written"]), (&1.into(), &1.into()), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 record not written, because the target holds a newer version"), "{}", ran.stderr);
    assert_eq!(shop.target_names(), ["theirs", "ours", "cheese"]);
}
