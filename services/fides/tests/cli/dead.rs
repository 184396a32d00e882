use crate::shop::Shop;

/// A price that is no number cannot be mapped; the other records are written.
fn poisoned() -> Shop {
    let shop = Shop::new();
    shop.on_host("UPDATE item SET price = 'a lot' WHERE id = 2; INSERT INTO item VALUES (4, 'dates', 'cheap')");
    let ran = shop.run(&["sync", "--once", "--json"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("2 dead letters") && ran.stderr.contains("fides dead list items"), "{}", ran.stderr);
    assert_eq!((&ran.json()[0]["dead"], &ran.json()[0]["written"]), (&2.into(), &2.into()));
    assert_eq!(shop.target_names(), ["apple", "cheese"]);
    shop
}

#[test]
fn a_letter_is_listed_shown_and_replayed_once_its_cause_is_mended() {
    let shop = poisoned();
    let listed = shop.json(&["dead", "list", "items", "--json"]);
    assert_eq!((&listed[0]["key"], &listed[1]["key"]), (&"2".into(), &"4".into()));
    let table = shop.run(&["dead", "list", "items"]);
    assert!(table.stdout.contains("price") && table.stdout.contains("2 dead letters."), "{}", table.stdout);
    let shown = shop.run(&["dead", "show", "items", "2"]);
    assert!(shown.stdout.contains("a lot") && shown.stdout.contains("bread"), "{}", shown.stdout);
    assert!(shop.run(&["explain", "items", "2"]).stdout.contains("a dead letter"));

    // An import does not send it again, and still says that it is there.
    let again = shop.run(&["sync", "--once", "--json"]);
    assert_eq!((again.status, &again.json()[0]["published"]), (2, &0.into()));

    shop.on_host("UPDATE item SET price = '3.30' WHERE id = 2");
    let replayed = shop.run(&["dead", "replay", "items", "--all", "--json"]);
    assert_eq!(replayed.status, 2, "one is still poisoned: {}", replayed.stderr);
    assert_eq!((&replayed.json()["published"], &replayed.json()["remaining"]), (&2.into(), &1.into()));
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);

    shop.on_host("UPDATE item SET price = '1' WHERE id = 4");
    let replayed = shop.run(&["dead", "replay", "items", "4"]);
    assert_eq!(replayed.status, 0, "{}", replayed.stderr);
    assert!(replayed.stdout.contains("0 dead letters remain"), "{}", replayed.stdout);
    assert_eq!(shop.run(&["verify", "items"]).status, 0);
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
}

#[test]
fn a_dropped_letter_is_forgotten() {
    let shop = poisoned();
    let dropped = shop.run(&["dead", "drop", "items", "2"]);
    assert_eq!(dropped.status, 0, "{}", dropped.stderr);
    assert!(
        dropped.stdout.contains("1 dead letter dropped") && dropped.stdout.contains("--full"),
        "{}",
        dropped.stdout
    );
    let told = shop.run(&["explain", "items", "2"]).stdout;
    let plan = shop.json(&["plan", "items", "--json"]);
    assert_eq!((&plan["dead"], &plan["unchanged"]), (&2.into(), &2.into()), "{plan}");
    assert!(told.contains("its dead letter was dropped") && told.contains("a dropped dead letter was"), "{told}");
    let left = shop.json(&["dead", "list", "items", "--json"]);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["key"]), (1, &"4".into()));
    assert_eq!(shop.target_names(), ["apple", "cheese"]);
}

#[test]
fn a_key_without_a_letter_stops_everything() {
    let shop = poisoned();
    let ran = shop.run(&["dead", "drop", "items", "2", "3"]);
    assert_eq!(ran.status, 65);
    assert!(ran.stderr.contains("no dead letter 3"), "{}", ran.stderr);
    assert_eq!(shop.json(&["dead", "list", "items", "--json"]).as_array().unwrap().len(), 2);
}
