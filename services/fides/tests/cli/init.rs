//! What `init` writes works as it is, from where it says, and with its comments switched on.

use crate::shop::Shop;

/// Lines of the `include` blocks without their comment signs.
pub fn included(yaml: &str) -> String {
    let mut inside = false;
    let lines = yaml.lines().map(|line| {
        inside = line.starts_with("    # include:") || (inside && line.starts_with("    #   "));
        if inside { line.replacen("# ", "", 1) } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn tables_whose_names_are_alike_have_pipelines_and_targets_of_their_own() {
    let shop = Shop::new();
    let long = "x".repeat(80);
    shop.on_host(&format!(
        "CREATE TABLE \"a b\" (id INTEGER PRIMARY KEY); CREATE TABLE a_b (id INTEGER PRIMARY KEY);
         CREATE TABLE \"{long}1\" (id INTEGER PRIMARY KEY); CREATE TABLE \"{long}2\" (id INTEGER PRIMARY KEY);
         CREATE TABLE \"${{a}}.b\nc\" (id INTEGER PRIMARY KEY, \"x ${{y}}\" TEXT); CREATE TABLE \"no\nkey\" (x TEXT);
         INSERT INTO \"a b\" VALUES (1); INSERT INTO a_b VALUES (1), (2)"
    ));
    assert_eq!(shop.run(&["init", "host.sqlite", "--out", "all.yaml"]).status, 0);
    let checked = shop.run(&["--config", "all.yaml", "check", "--connect"]);
    assert_eq!(checked.status, 0, "{}{}", checked.stdout, checked.stderr);
    let synced = shop.run(&["--config", "all.yaml", "sync", "--once"]);
    assert_eq!(synced.status, 0, "{}", synced.stderr);
    for (pipeline, records) in [("a_b", 1), ("a_b_2", 2)] {
        let verified = shop.json(&["--config", "all.yaml", "verify", pipeline, "--json"]);
        assert_eq!(verified["equal"], records, "{pipeline}: {verified}");
    }
}

#[test]
fn relations_can_be_switched_on() {
    let shop = Shop::new();
    shop.on_host(
        "PRAGMA foreign_keys = OFF; CREATE TABLE address (id INTEGER PRIMARY KEY, street TEXT);
         CREATE TABLE country (code TEXT PRIMARY KEY NOT NULL, name TEXT);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, country TEXT REFERENCES COUNTRY (CODE),
            bill INTEGER REFERENCES address, ship INTEGER REFERENCES address, gone INTEGER REFERENCES nowhere (id));
         INSERT INTO address VALUES (1, 'Main'), (2, 'Side'); INSERT INTO country VALUES ('CH', 'Switzerland');
         INSERT INTO orders VALUES (7, 'CH', 1, 2, 3)",
    );
    assert_eq!(shop.run(&["init", "host.sqlite", "--out", "new.yaml"]).status, 0);
    let yaml = std::fs::read_to_string(shop.path("new.yaml")).unwrap();
    assert_eq!(yaml.matches("# include:").count(), 1, "{yaml}");
    std::fs::write(shop.path("new.yaml"), included(&yaml)).unwrap();
    let checked = shop.run(&["--config", "new.yaml", "check", "--connect"]);
    assert_eq!(checked.status, 0, "{}{}", checked.stdout, checked.stderr);
    let synced = shop.run(&["--config", "new.yaml", "sync", "--once"]);
    assert_eq!(synced.status, 0, "{}", synced.stderr);
    let told = shop.run(&["--config", "new.yaml", "explain", "orders", "7"]);
    for nested in ["Main", "Side", "Switzerland"] {
        assert!(told.stdout.contains(nested), "{nested}: {}", told.stdout);
    }
}

#[test]
fn paths_begin_where_the_configuration_is() {
    let shop = Shop::new();
    std::fs::create_dir_all(shop.path("sub/conf")).unwrap();
    std::fs::rename(shop.path("host.sqlite"), shop.path("sub/g.sqlite")).unwrap();
    let absolute = shop.path("sub/g.sqlite");
    for (host, out) in [
        ("sub/g.sqlite", "sub/conf/g.yaml"),
        ("./sub/../sub/g.sqlite", "g.yaml"),
        ("sub/g.sqlite", "sub/beside.yaml"),
        (absolute.to_str().unwrap(), "sub/conf/absolute.yaml"),
    ] {
        let ran = shop.run(&["init", host, "--out", out]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("fides --config {out} check --connect")), "{}", ran.stderr);
        let checked = shop.run(&["--config", out, "check", "--connect"]);
        assert_eq!(checked.status, 0, "{host}, {out}: {}{}", checked.stdout, checked.stderr);
    }
    let printed = shop.run(&["init", "sub/g.sqlite"]);
    std::fs::write(shop.path("fides.yaml"), printed.stdout).unwrap();
    assert_eq!(shop.run(&["check", "--connect"]).status, 0);
}

#[test]
fn a_url_of_an_unknown_kind_is_refused_and_not_repeated() {
    let shop = Shop::new();
    let ran = shop.run(&["init", "mongodb://u:hunter2@h/db"]);
    assert_eq!(ran.status, 64, "{}", ran.stderr);
    assert!(ran.stderr.contains("mongodb://") && ran.stderr.contains("postgres://"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2") && ran.stdout.is_empty(), "{}", ran.stderr);
}
