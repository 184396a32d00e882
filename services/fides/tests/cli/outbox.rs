//! A SQLite host that tells of its changes.

use crate::shop::{CONFIG, Shop};
use crate::staying::{Staying, until};

fn following() -> Shop {
    let shop = Shop::new();
    shop.configure(&CONFIG.replace("    key: [id]\n", "    key: [id]\n    events: log\n"));
    shop
}

/// The latest import, once it has ended.
fn import(shop: &Shop) -> Option<String> {
    let run = &shop.json(&["status", "--json"])[0]["run"];
    run["ended_ms"].is_u64().then(|| run["id"].as_str().unwrap().to_owned())
}

#[test]
fn changes_arrive_without_an_import() {
    let shop = following();
    let made = shop.run(&["init", "--events"]);
    assert_eq!((made.status, made.stderr.as_str()), (0, ""));
    assert!(made.stdout.contains("host.sqlite: now tells of item (id); followed by 1 pipeline"), "{}", made.stdout);
    assert!(shop.run(&["init", "--events"]).stdout.contains("everything was there"));
    assert_eq!(shop.run(&["check", "--connect"]).status, 0);

    // The log is opened for the first time, and what it does not tell is imported.
    let staying = Staying::start(&shop);
    shop.on_host("INSERT INTO item VALUES (4, 'dates', '4.00')");
    until("the first import", || import(&shop).is_some() && shop.path("target.sqlite").exists());
    until("the first records", || shop.target_names() == ["apple", "bread", "cheese", "dates"]);
    shop.on_host("UPDATE item SET name = 'figs' WHERE id = 4");
    until("the first event", || shop.target_names()[3] == "figs");
    drop(staying);
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    let before = import(&shop).unwrap();

    // Made while nobody reads.
    shop.on_host("UPDATE item SET name = 'grapes' WHERE id = 4");
    let staying = Staying::start(&shop);
    until("the import of a start", || import(&shop).is_some_and(|run| run != before));
    let last = import(&shop).unwrap();
    shop.on_host(
        "BEGIN; UPDATE item SET name = 'avocado' WHERE id = 1; DELETE FROM item WHERE id = 2;
         UPDATE item SET id = 9 WHERE id = 3; REPLACE INTO item VALUES (5, 'eggs', '5.00'); COMMIT",
    );
    until("every change", || shop.target_names() == ["avocado", "grapes", "eggs", "cheese"]);
    assert_eq!(import(&shop).unwrap(), last, "no import brought them");
    until("what was read is removed", || shop.number_on_host("SELECT count(*) FROM _fides_outbox") == 1);
    drop(staying);

    let after = shop.json(&["sync", "--once", "--json"]);
    assert_eq!((&after[0]["read"], &after[0]["published"]), (&4.into(), &0.into()), "{after}");
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
}

#[test]
fn without_an_outbox_imports_go_on_and_check_says_what_to_do() {
    let shop = following();
    let checked = shop.run(&["check", "--connect"]);
    assert_eq!(checked.status, 64);
    for part in ["pipelines.items.events", "no outbox that tells of changes in item", "fides init --events"] {
        assert!(checked.stdout.contains(part), "{part}: {}", checked.stdout);
    }
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);

    assert_eq!(shop.run(&["init", "--events"]).status, 0);
    shop.on_host("UPDATE item SET name = 'avocado' WHERE id = 1");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 1, "another lineage is compared anew");
    assert!(shop.run(&["init", "--remove-events"]).stdout.contains("triggers and outbox are removed"));
    assert!(shop.run(&["init", "--remove-events"]).stdout.contains("nothing to remove"));
    assert_eq!(shop.number_on_host("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%fides%'"), 0);
    shop.on_host("UPDATE item SET name = 'apple' WHERE id = 1");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 1);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
}

#[test]
fn the_outbox_is_made_for_those_who_ask() {
    let shop = Shop::new();
    let ran = shop.run(&["init", "--events"]);
    assert_eq!(ran.status, 64);
    assert!(ran.stderr.contains("events: log"), "{}", ran.stderr);
    for args in [&["init"][..], &["init", "--events", "host.sqlite"], &["init", "--events", "--remove-events"]] {
        assert_eq!(shop.run(args).status, 64, "{args:?}");
    }
    assert_eq!(shop.number_on_host("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%fides%'"), 0);
}
