//! Commands: beside a running sync, and where none runs.

use serde_json::Value;

use crate::shop::Shop;
use crate::staying::{Staying, until};

const ITEMS: usize = 300;

/// A shop with more items than a clean-up may delete unasked.
fn synced() -> Shop {
    let shop = Shop::new();
    shop.on_host(
        "WITH RECURSIVE n(i) AS (VALUES (4) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO item SELECT i, 'item ' || i, '1' FROM n",
    );
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["written"], ITEMS);
    shop
}

fn status(shop: &Shop) -> Value {
    shop.json(&["status", "--json"])[0].take()
}

#[test]
fn without_a_sync_the_work_is_done_at_once() {
    let shop = synced();
    let full = shop.json(&["reimport", "items", "--full", "--json"]);
    let detail = &full["detail"]["items"];
    assert_eq!((&full["status"], &detail["published"]), (&"done".into(), &ITEMS.into()), "{full}");
    shop.on_host("UPDATE item SET name = 'avocado' WHERE id = 1; UPDATE item SET name = 'beer' WHERE id = 2");
    let keyed = shop.json(&["reimport", "items", "--keys", "1", "--json"]);
    assert_eq!((&keyed["status"], &keyed["detail"]["items"]["published"]), (&"done".into(), &1.into()), "{keyed}");
    assert_eq!(shop.target_names()[..2], ["avocado", "bread"], "the others were not looked at");
    let ranged = shop.run(&["reimport", "--from", "2", "--to", "4", "items"]);
    assert_eq!(ranged.status, 0, "{}", ranged.stderr);
    assert!(ranged.stdout.contains("done: reimport") && ranged.stdout.contains("published 2"), "{}", ranged.stdout);
    assert_eq!(shop.target_names()[..2], ["avocado", "beer"]);

    shop.on_target("UPDATE items SET name = 'wrong' WHERE id = 7");
    assert_eq!(shop.run(&["repair", "items"]).status, 0);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
    shop.on_host("DELETE FROM item WHERE id = 9");
    assert_eq!(shop.json(&["cleanup", "items", "--json"])["detail"]["items"]["deleted"], 1);

    let listed = shop.json(&["commands", "list", "--json"]);
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["command"].as_str().unwrap()).collect();
    assert_eq!(names, ["cleanup", "verify", "reimport", "reimport", "reimport"], "the newest first");
    let id = listed[0]["answer"]["id"].as_str().unwrap();
    assert!(shop.run(&["commands", "show", id]).stdout.contains("cleanup: done"));
    assert_eq!(shop.run(&["commands", "show", "nope"]).status, 65);
}

#[test]
fn the_same_id_is_the_same_command() {
    let shop = synced();
    let first = shop.json(&["reimport", "items", "--full", "--id", "once", "--json"]);
    let again = shop.json(&["reimport", "items", "--full", "--id", "once", "--json"]);
    assert_eq!(first, again);
    let other = shop.run(&["reimport", "items", "--id", "once"]);
    assert_eq!(other.status, 3);
    assert!(other.stderr.contains("another command"), "{}", other.stderr);
}

#[test]
fn what_is_refused_says_why_and_is_3() {
    let shop = synced();
    for (args, expected) in [
        (&["reimport", "items", "--keys", "x"][..], "not a i64"),
        (&["approve", "items", "nope", "--deletions-max", "5"], "no clean-up of items is refused"),
        (&["pause", "items", "--id", "a b"], "visible ASCII"),
        (&["pause", "items", "--requester", ""], "`requester`"),
    ] {
        let ran = shop.run(args);
        assert_eq!(ran.status, 3, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("refused") && ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    }
    for args in [&["pause"][..], &["pause", "items", "--all"], &["approve", "items", "run"], &["pause", "nope"]] {
        assert_eq!(shop.run(args).status, 64, "{args:?}");
    }
    assert!(status(&shop)["paused"].is_null());
}

#[test]
fn a_pause_outlives_processes() {
    let shop = synced();
    assert_eq!(shop.run(&["pause", "items", "--requester", "ops"]).status, 0);
    let told = shop.run(&["status"]).stdout;
    assert!(told.contains("paused") && told.contains("by ops") && told.contains("fides resume items"), "{told}");
    shop.on_host("DELETE FROM item WHERE id = 1");
    let once = shop.run(&["sync", "--once"]);
    assert_eq!(once.status, 69, "{}", once.stderr);
    assert!(once.stderr.contains("paused by ops"), "{}", once.stderr);
    let waits = shop.json(&["reimport", "items", "--json"]);
    assert_eq!(waits["status"], "accepted", "it waits for the end of the pause");
    assert_eq!(status(&shop)["commands"][0]["command"], "reimport");
    assert!(shop.run(&["status"]).stdout.contains("reimport asked"));
    assert_eq!(shop.target_names().len(), ITEMS);
    assert_eq!(shop.run(&["resume", "items"]).status, 0);
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    assert_eq!(shop.target_names().len(), ITEMS - 1);
    assert_eq!(status(&shop)["commands"], Value::Array(Vec::new()), "the sync has carried it out");
}

#[test]
fn a_refused_clean_up_is_approved() {
    let shop = synced();
    shop.on_host("DELETE FROM item WHERE id > 100");
    shop.run(&["sync", "--once"]);
    assert_eq!(shop.target_names().len(), ITEMS);
    let told = shop.run(&["status"]).stdout;
    let run = status(&shop)["refused"]["run"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("fides approve items {run} --deletions-max 200")), "{told}");
    let too_few = shop.run(&["approve", "items", &run, "--deletions-max", "199"]);
    assert_eq!(too_few.status, 3, "{}", too_few.stdout);
    assert_eq!(shop.target_names().len(), ITEMS, "above the ceiling nothing is deleted");
    let run = status(&shop)["refused"]["run"].as_str().unwrap().to_owned();
    let approved = shop.json(&["approve", "items", &run, "--deletions-max", "200", "--json"]);
    assert_eq!(approved["detail"]["items"]["deleted"], 200, "{approved}");
    assert_eq!(shop.target_names().len(), 100);
    assert!(status(&shop)["refused"].is_null());
}

#[test]
fn a_running_sync_takes_commands() {
    let shop = synced();
    let staying = Staying::start(&shop);
    until("the first import", || status(&shop)["run"]["ended_ms"].is_u64());
    // Who works is told beside what was done.
    until("its heart", || status(&shop)["processes"][0]["lanes"] == 4);
    let process = status(&shop)["processes"][0].take();
    assert_eq!(
        (&process["service"], &process["breakers"]["target copy"]),
        (&"fides".into(), &"closed".into()),
        "{process}"
    );
    let told = shop.run(&["status"]).stdout;
    assert!(told.lines().any(|line| line.starts_with("fides ") && line.contains("items: ")), "{told}");
    let full = shop.json(&["reimport", "items", "--full", "--wait", "--json"]);
    assert_eq!((&full["status"], &full["detail"]["items"]["published"]), (&"done".into(), &ITEMS.into()), "{full}");
    let refused = shop.run(&["pause", "nope"]);
    assert_eq!(refused.status, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("there is no pipeline \"nope\"; expected some of items"), "{}", refused.stderr);

    assert_eq!(shop.run(&["pause", "items"]).status, 0);
    assert!(status(&shop)["paused"].is_object());
    let waiting = shop.json(&["reimport", "items", "--full", "--json"]);
    assert_eq!(waiting["status"], "accepted");
    let cancelled = shop.json(&["cancel", "items", "--json"]);
    assert_eq!(cancelled["detail"]["items"]["imports"], 1, "{cancelled}");
    assert_eq!(shop.run(&["resume", "items"]).status, 0);
    let id = waiting["id"].as_str().unwrap();
    let told = shop.run(&["reimport", "items", "--full", "--id", id]);
    assert_eq!(told.status, 3);
    assert!(told.stderr.contains("cancelled by"), "{}", told.stderr);
    drop(staying);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
}
