//! What is found only once the stores are asked is told all at once, each with its place in the file.

use crate::shop::{CONFIG, Shop};

/// The line of the configuration that holds a text, counted from one.
fn line(yaml: &str, text: &str) -> String {
    let found = yaml.lines().position(|line| line.contains(text)).unwrap();
    format!("fides.yaml:{}:", found + 1)
}

#[test]
fn mistakes_of_three_levels_are_told_at_once() {
    let shop = Shop::new();
    let include =
        "    include:\n      maker: { from: makers, on: { id: name }, as: one }\n    mapping:\n      by: maker.name\n";
    let yaml = CONFIG
        .replace("create: true", "create: false")
        .replace("    mapping:\n", include)
        .replace("name: name", "name: nam")
        .replace("price: { from: price, cast: decimal }", "price: { jq: .prize, type: decimal }");
    shop.configure(&yaml);
    let checked = shop.run(&["check", "--connect"]);
    assert_eq!(checked.status, 64, "{}", checked.stderr);
    for (text, path, expected) in [
        ("maker: {", "pipelines.items.include.maker.from", "no table makers"),
        ("name: nam", "pipelines.items.mapping.name", "\"nam\""),
        ("price: {", "pipelines.items.mapping.price", "\"prize\""),
        ("into: items", "pipelines.items.into", "table items of the target: it does not exist"),
    ] {
        let found = checked.stdout.lines().collect::<Vec<_>>();
        let at =
            found.iter().position(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}: {}", checked.stdout));
        assert!(found[at].starts_with(&format!("error: {}", line(&yaml, text))), "{path}: {}", found[at]);
        assert!(found[at + 1].contains(expected), "{path}: {}", found[at + 1]);
    }
    assert_eq!(
        checked.stdout.matches("error: ").count(),
        4,
        "what asks for the unknown relation is no mistake of its own"
    );

    let synced = shop.run(&["sync", "--once"]);
    assert_eq!(synced.status, 64);
    assert!(synced.stderr.contains(&line(&yaml, "name: nam")), "{}", synced.stderr);
    let findings = shop.run(&["check", "--connect", "--json"]).json();
    let place = findings[0]["place"].as_str().unwrap();
    assert!(place.starts_with(&line(&yaml, "maker: {")), "{findings}");
}

#[test]
fn a_warning_of_the_file_belongs_to_the_host_and_is_told_once() {
    let shop = Shop::new();
    let twice = CONFIG.replace(
        "pipelines:\n",
        "pipelines:\n  more: { host: shop, from: item, target: copy, into: more, create: true, columns: '*' }\n",
    );
    shop.configure(&twice);
    let findings = shop.json(&["check", "--connect", "--json"]);
    let of_journal: Vec<_> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["message"].as_str().unwrap().contains("journal mode is delete"))
        .collect();
    assert_eq!(of_journal.len(), 1, "{findings}");
    assert_eq!(of_journal[0]["path"], "hosts.shop");
    assert!(of_journal[0]["place"].as_str().unwrap().starts_with(&line(&twice, "shop: {")), "{findings}");
}
