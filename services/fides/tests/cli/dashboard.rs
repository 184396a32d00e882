//! The status page's API: what it shows, what it does, and whom it refuses.

use std::process::Command;

use serde_json::{Value, json};

use crate::served::Served;
use crate::shop::{CONFIG, Shop};
use crate::staying::{Staying, until};

const TOKEN: &str = "a-token-of-some-length";

/// Two of four records cannot be mapped.
fn poisoned() -> Shop {
    let shop = Shop::new();
    shop.on_host("UPDATE item SET price = 'a lot' WHERE id = 2; INSERT INTO item VALUES (4, 'dates', 'cheap')");
    assert_eq!(shop.run(&["sync", "--once"]).status, 2);
    shop
}

/// What became of a command, once it is not waited for any more.
fn became(served: &Served, id: &str) -> Value {
    let mut found = Value::Null;
    until("the command", || {
        let seen = served.status();
        let all = seen["commands"].as_array().unwrap().clone();
        found = all.into_iter().find(|one| one["answer"]["id"] == id).unwrap_or_default();
        found["answer"]["status"] == "done" || found["answer"]["status"] == "refused"
    });
    found
}

#[test]
fn it_shows_what_status_and_dead_list_say() {
    let shop = poisoned();
    let served = Served::start(&shop, &[]);
    let seen = served.status();
    assert_eq!(seen["pipelines"], shop.json(&["status", "--json"]));
    assert_eq!((&seen["processes"], &seen["commands"]), (&json!([]), &json!([])));
    let dead = served.get("/api/dead?pipeline=items").json();
    assert_eq!(dead["letters"], shop.json(&["dead", "list", "items", "--json"]));
    assert_eq!(dead["more"], false);
    let behind = served.get("/api/dead?pipeline=items&after=2").json();
    assert_eq!((&behind["letters"][0]["key"], &behind["letters"][1]), (&"4".into(), &Value::Null));
    for (path, status) in [
        ("/api/dead?pipeline=nope", 404),
        ("/api/dead?pipeline=items&after=x", 400),
        ("/api/dead", 400),
        ("/api/nothing", 404),
        ("/../fides.yaml", 404),
        ("/api/replay", 405),
    ] {
        let got = served.get(path);
        assert_eq!(got.status, status, "{path}: {}", got.body);
        assert!(got.json()["error"].is_string(), "{path}: {}", got.body);
    }
}

#[test]
fn letters_come_a_page_at_a_time() {
    let shop = Shop::new();
    shop.on_host(
        "WITH RECURSIVE n(i) AS (VALUES (4) UNION ALL SELECT i + 1 FROM n WHERE i < 93)
         INSERT INTO item SELECT i, 'item ' || i, 'none' FROM n",
    );
    assert_eq!(shop.run(&["sync", "--once"]).status, 2);
    let served = Served::start(&shop, &[]);
    let (mut keys, mut path) = (Vec::new(), String::from("/api/dead?pipeline=items"));
    loop {
        let page = served.get(&path).json();
        let found = page["letters"].as_array().unwrap();
        assert!(found.len() <= 50);
        keys.extend(found.iter().map(|letter| letter["key"].as_str().unwrap().to_owned()));
        if page["more"] == false {
            break;
        }
        path = format!("/api/dead?pipeline=items&after={}", keys.last().unwrap());
    }
    assert_eq!(keys, (4..=93).map(|key| key.to_string()).collect::<Vec<_>>());
}

#[test]
fn without_a_sync_it_does_the_work_itself() {
    let shop = poisoned();
    let served = Served::start(&shop, &[]);
    shop.on_host("UPDATE item SET price = '3.30' WHERE id = 2; UPDATE item SET name = 'apples' WHERE id = 1");
    let one = json!({ "id": "one", "pipeline": "items", "keys": ["2"] });
    let got = served.post("/api/replay", &one);
    assert_eq!((got.status, &got.json()["status"]), (200, &"accepted".into()), "{}", got.body);
    let done = became(&served, "one");
    assert_eq!((&done["answer"]["status"], &done["requester"]), (&"done".into(), &"tester".into()), "{done}");
    // It is carried out when it is sent; what was sent is written a moment later.
    until("the letter to be gone", || served.status()["pipelines"][0]["dead"] == 1);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"], "the others were not looked at");

    // The same command again is answered again.
    until("the file to be free", || served.post("/api/replay", &one).json()["status"] == "done");
    let full = json!({ "id": "full", "pipeline": "items", "mode": "full", "confirm": "items" });
    assert_eq!(served.post("/api/reimport", &full).status, 200);
    let done = became(&served, "full");
    assert_eq!(done["answer"]["status"], "done", "{done}");
    until("the import", || shop.target_names() == ["apples", "bread", "cheese"]);
    until("the file to be free", || shop.run(&["sync", "--once"]).status == 2);
}

#[test]
fn beside_a_sync_it_shows_who_works_and_asks_that() {
    let shop = poisoned();
    let mut served = Served::start(&shop, &[]);
    let staying = Staying::start(&shop);
    until("the process", || {
        let seen = served.status();
        let process = &seen["processes"][0];
        process["service"] == "fides" && process["pipelines"]["items"]["lanes"] == 4
    });
    let seen = served.status();
    assert_eq!(seen["processes"][0]["breakers"]["target copy"], "closed", "{seen}");
    shop.on_host("UPDATE item SET price = '1' WHERE id IN (2, 4)");
    let got = served.post("/api/replay", &json!({ "id": "all", "pipeline": "items", "all": true }));
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(became(&served, "all")["answer"]["status"], "done");
    until("the letters to be gone", || served.status()["pipelines"][0]["dead"] == 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese", "dates"]);
    drop(staying);

    let sent = Command::new("kill").args(["-TERM", &served.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(served.ended(), Some(143));
}

#[test]
fn a_sync_that_ends_says_so() {
    let shop = Shop::new();
    let served = Served::start(&shop, &[]);
    assert_eq!(served.status()["processes"], json!([]), "also before there is a state file");
    let mut staying = Staying::start(&shop);
    until("the process", || served.status()["processes"][0]["service"] == "fides");
    let records = || served.status()["pipelines"][0]["records"].clone();
    until("the import", || records() == 3);
    staying.end("-TERM");
    until("its end", || served.status()["processes"] == json!([]));
    assert_eq!(records(), 3, "what it did is seen all the same");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let shop = poisoned();
    let served = Served::start(&shop, &[]);
    let reimport = |change: Value| {
        let mut body = json!({ "id": "x", "pipeline": "items", "mode": "full", "confirm": "items" });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        served.post("/api/reimport", &body)
    };
    for (change, status) in [
        (json!({ "confirm": "item" }), 400),
        (json!({ "confirm": "" }), 400),
        (json!({ "mode": "all" }), 400),
        (json!({ "misspelt": 1 }), 400),
        (json!({ "pipeline": "nope", "confirm": "nope" }), 404),
    ] {
        let got = reimport(change.clone());
        assert_eq!(got.status, status, "{change}: {}", got.body);
    }
    let odd = reimport(json!({ "id": "a b" }));
    assert_eq!((odd.status, &odd.json()["status"]), (200, &"refused".into()), "{}", odd.body);
    for body in [
        json!({}),
        json!({ "id": "x", "pipeline": "items" }),
        json!({ "id": "x", "pipeline": "items", "all": true, "keys": ["2"] }),
    ] {
        assert_eq!(served.post("/api/replay", &body).status, 400, "{body}");
    }
    let unread = served.post("/api/replay", &json!({ "id": "y", "pipeline": "items", "keys": ["x"] })).json();
    assert!(unread["reason"].as_str().unwrap().contains("not a i64"), "{unread}");
    let large = json!({ "id": "x", "pipeline": "items", "keys": ["1".repeat(70_000)] });
    assert_eq!(served.post("/api/replay", &large).status, 413);
    let header = "x".repeat(40_000);
    assert_eq!(served.ask("GET", "/", &[("X-Long", &header)], "").status, 431);
    assert_eq!(
        served.status()["commands"].as_array().unwrap().len(),
        1,
        "one was kept: the one whose key makes no sense"
    );
}

#[test]
fn pages_of_others_get_nothing() {
    let shop = poisoned();
    let served = Served::start(&shop, &[]);
    let own = format!("http://{}", served.address);
    let body = json!({ "id": "x", "pipeline": "items", "mode": "full", "confirm": "items" }).to_string();
    let post = |headers: &[(&str, &str)]| served.ask("POST", "/api/reimport", headers, &body).status;
    assert_eq!(post(&[("Content-Type", "text/plain")]), 415);
    assert_eq!(post(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(post(&[("Origin", &own), ("Sec-Fetch-Site", "cross-site")]), 403);
    // A name of theirs that leads here.
    for path in ["/", "/api/status", "/api/dead?pipeline=items"] {
        assert_eq!(served.ask("GET", path, &[("Host", "evil.example")], "").status, 403, "{path}");
    }
    assert_eq!(served.status()["commands"], json!([]), "none of it was asked");
    assert_eq!(post(&[("Origin", &own), ("Sec-Fetch-Site", "same-origin")]), 200);
    let page = served.get("/");
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(page.head.contains("x-content-type-options: nosniff") && page.head.contains("no-store"), "{}", page.head);
    assert!(page.body.contains("<title>Fides</title>"));
}

#[test]
fn a_token_is_asked_for_everything_but_the_page() {
    let shop = poisoned();
    let served = Served::start(&shop, &[("FIDES__DASHBOARD__TOKEN", TOKEN)]);
    assert_eq!(served.get("/").status, 200);
    let bearer = format!("Bearer {TOKEN}");
    let body = json!({ "id": "x", "pipeline": "items", "keys": ["2"] }).to_string();
    for (method, path, body) in
        [("GET", "/api/status", ""), ("GET", "/api/dead?pipeline=items", ""), ("POST", "/api/replay", body.as_str())]
    {
        let refused = served.ask(method, path, &[], body);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        assert_eq!(served.ask(method, path, &[("Authorization", "Bearer wrong")], body).status, 401, "{path}");
        let named = [("Authorization", bearer.as_str()), ("Host", "fides.example")];
        assert_eq!(served.ask(method, path, &named, body).status, 200, "{path}");
    }
}

#[test]
fn beyond_loopback_it_wants_a_token() {
    let shop = Shop::new();
    let refused = shop.run(&["dashboard", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status, 64, "{}", refused.stderr);
    assert!(refused.stderr.contains("dashboard.token"), "{}", refused.stderr);
    shop.configure(&format!("dashboard: {{ token: short }}\n{CONFIG}"));
    let short = shop.run(&["dashboard"]);
    assert_eq!(short.status, 64);
    assert!(short.stderr.contains("at least 16") && !short.stderr.contains("short,"), "{}", short.stderr);
}

#[test]
fn an_address_that_is_taken_is_told() {
    let shop = Shop::new();
    let served = Served::start(&shop, &[]);
    let second = shop.run(&["dashboard", "--listen", &served.address.to_string()]);
    assert_eq!(second.status, 69, "{}", second.stderr);
    assert!(second.stderr.contains("give --listen another port"), "{}", second.stderr);
}

#[test]
fn stores_that_are_away_are_told_on_the_page() {
    let shop = Shop::new();
    let host = shop.path("host.sqlite");
    std::fs::rename(&host, shop.path("away")).unwrap();
    let served = Served::start(&shop, &[]);
    let away = served.get("/api/status");
    assert_eq!(away.status, 503, "{}", away.body);
    assert!(away.json()["error"].as_str().unwrap().contains("hosts.shop"), "{}", away.body);
    std::fs::rename(shop.path("away"), &host).unwrap();
    until("the host to be found again", || served.get("/api/status").status == 200);
}
