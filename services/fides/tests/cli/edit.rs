use crate::shop::{CONFIG, Shop};

/// Three cheap items and seventeen dear ones.
fn copied() -> Shop {
    let shop = Shop::new();
    shop.on_host(
        "DELETE FROM item;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
         INSERT INTO item SELECT i, 'n' || i, iif(i % 7 = 3, '0.50', '3.20') FROM n",
    );
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 20);
    shop
}

fn with_name(name: &str) -> String {
    CONFIG.replace("name: name", &format!("name: {name}"))
}

/// Other names for cheap items.
const CHEAP: &str = r#"{ jq: 'if .price == "0.50" then "cheap " + .name else .name end', type: string }"#;

#[test]
fn an_edit_of_the_mapping_sends_the_documents_that_it_changes() {
    let shop = copied();
    shop.configure(&with_name(CHEAP));
    let plan = shop.json(&["plan", "items", "--json"]);
    for (what, expected) in [("change", 3), ("unchanged", 17), ("create", 0), ("delete", 0), ("reject", 0)] {
        assert_eq!(plan[what], expected, "{what}: {plan}");
    }
    assert_eq!(plan["edit"]["relabel"], 17, "{plan}");
    let told = shop.run(&["plan", "items"]).stdout;
    for expected in ["n3", "cheap n3", "was edited", "17 documents stay as they are"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let story = shop.json(&["explain", "items", "1", "--json"]);
    assert!(story["verdict"].as_str().unwrap().contains("mapping was edited"), "{story}");
    let synced = shop.json(&["sync", "--once", "--json"]);
    assert_eq!((&synced[0]["published"], &synced[0]["unchanged"]), (&3.into(), &17.into()), "{synced}");
    assert_eq!(shop.target_names()[2], "cheap n3");
    assert_eq!(shop.json(&["verify", "items", "--json"])["equal"], 20);

    let plan = shop.json(&["plan", "items", "--json"]);
    assert_eq!((&plan["change"], &plan["edit"]), (&0.into(), &serde_json::Value::Null), "{plan}");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 0);
}

#[test]
fn an_edit_that_reads_other_columns_sends_the_documents_that_it_changes() {
    let shop = Shop::new();
    shop.on_host("ALTER TABLE item ADD COLUMN title TEXT; UPDATE item SET title = name");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 3);
    shop.on_host("UPDATE item SET title = 'loaf' WHERE id = 2");
    shop.configure(&with_name("title"));
    assert_eq!(shop.json(&["plan", "items", "--json"])["change"], 1);
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 1);
    assert_eq!(shop.target_names(), ["apple", "loaf", "cheese"]);

    // Where what it read is gone, that is said, and everything is sent.
    shop.configure(CONFIG);
    shop.on_host("ALTER TABLE item DROP COLUMN title");
    let told = shop.run(&["plan", "items"]).stdout;
    assert!(told.contains("item.title, which is gone") && told.contains("Every document"), "{told}");
    assert_eq!(shop.json(&["sync", "--once", "--json"])[0]["published"], 3);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
}

#[test]
fn a_condition_that_leaves_out_everything_deletes_nothing() {
    let shop = copied();
    let limits = "limits: { delete_count_min: 1 }\n";
    shop.configure(&format!("{limits}{}", CONFIG.replace("    mapping:", "    when: .price == \"?\"\n    mapping:")));
    let plan = shop.json(&["plan", "items", "--json"]);
    assert_eq!((&plan["delete"], &plan["edit"]["exclude"]), (&20.into(), &20.into()), "{plan}");
    for _ in 0..2 {
        let ran = shop.run(&["sync", "--once"]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains("leaves out") && ran.stderr.contains("delete_ratio_max"), "{}", ran.stderr);
        assert_eq!(shop.target_names().len(), 20);
    }
    assert!(shop.run(&["plan", "items"]).stdout.contains("would be refused"));
}
