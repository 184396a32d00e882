use std::process::Stdio;

use crate::shop::{self, CONFIG, Shop};

#[test]
fn help_shows_examples_and_exit_statuses() {
    let shop = Shop::new();
    let help = shop.run(&["--help"]);
    assert_eq!(help.status, 0);
    for expected in ["fides sync --once", "Exit status:", "64  ", "75  "] {
        assert!(help.stdout.contains(expected), "{expected}: {}", help.stdout);
    }
    let commands = ["demo", "init", "check", "plan", "sync", "status", "verify", "explain", "dead", "schema"];
    let asked = ["reimport", "pause", "resume", "cleanup", "repair", "approve", "cancel", "commands"];
    for command in commands.into_iter().chain(asked) {
        let help = shop.run(&[command, "--help"]);
        assert_eq!(help.status, 0, "{command}");
        assert!(help.stdout.contains("Examples:") && help.stdout.contains(&format!("fides {command}")), "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_64() {
    let shop = Shop::new();
    for args in [&["snyc"][..], &["plan"], &["sync", "--full"], &["dead", "show", "items"], &["--nope"]] {
        let ran = shop.run(args);
        assert_eq!(ran.status, 64, "{args:?}");
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{args:?}");
    }
    assert!(shop.run(&["snyc"]).stderr.contains("sync"), "the nearest command is named");
}

#[test]
fn a_missing_configuration_is_named() {
    let shop = Shop::new();
    let ran = shop.run(&["--config", "other.yaml", "status"]);
    assert_eq!(ran.status, 64);
    assert!(ran.stderr.starts_with("fides: ") && ran.stderr.contains("other.yaml"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--config"), "{}", ran.stderr);

    let by_variable = shop::ran(shop.command(&["status"]).env("FIDES_CONFIG", "third.yaml").output().unwrap());
    assert_eq!(by_variable.status, 64);
    assert!(by_variable.stderr.contains("third.yaml"), "{}", by_variable.stderr);
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_its_place() {
    let shop = Shop::new();
    shop.configure(&CONFIG.replace("kind: sqlite, path: ./host", "kind: sqllite, path: ./host"));
    let ran = shop.run(&["sync", "--once"]);
    assert_eq!(ran.status, 64);
    for expected in ["fides.yaml:5:", "hosts.shop", "sqllite", "did you mean \"sqlite\"?"] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    let checked = shop.run(&["check", "--json"]);
    assert_eq!(checked.status, 64);
    let findings = checked.json();
    assert_eq!(findings[0]["severity"], "error");
    assert!(findings[0]["place"].as_str().unwrap().contains("fides.yaml:5:"), "{findings}");
}

#[test]
fn a_missing_table_or_column_or_pipeline_is_named() {
    let shop = Shop::new();
    shop.configure(&CONFIG.replace("from: item", "from: itme"));
    for args in [&["sync", "--once"][..], &["check", "--connect"]] {
        let ran = shop.run(args);
        assert_eq!(ran.status, 64, "{args:?}: {}", ran.stderr);
        let told = ran.stderr + &ran.stdout;
        for expected in ["pipelines.items.from", "itme", "did you mean item?"] {
            assert!(told.contains(expected), "{args:?}, {expected}: {told}");
        }
    }
    shop.configure(&CONFIG.replace("from: price", "from: prize"));
    let told = shop.run(&["plan", "items"]);
    assert_eq!(told.status, 64);
    assert!(told.stderr.contains("prize"), "{}", told.stderr);

    shop.configure(CONFIG);
    let told = shop.run(&["verify", "itmes"]);
    assert_eq!(told.status, 64);
    assert!(told.stderr.contains("itmes") && told.stderr.contains("items"), "{}", told.stderr);
}

#[test]
fn a_host_that_is_not_there_is_no_success() {
    let shop = Shop::new();
    std::fs::remove_file(shop.path("host.sqlite")).unwrap();
    let ran = shop.run(&["sync", "--once"]);
    assert_eq!(ran.status, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("host.sqlite"), "{}", ran.stderr);
}

#[test]
fn check_connects_only_when_asked() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["check", "--connect"]).status, 0);
    std::fs::remove_file(shop.path("host.sqlite")).unwrap();
    assert_eq!(shop.run(&["check"]).status, 0);
    assert_ne!(shop.run(&["check", "--connect"]).status, 0);
}

#[test]
fn init_writes_a_configuration_that_works_and_overwrites_none() {
    let shop = Shop::new();
    let ran = shop.run(&["init", "host.sqlite", "--out", "new.yaml"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let synced = shop.run(&["--config", "new.yaml", "sync", "--once"]);
    assert_eq!(synced.status, 0, "{}", synced.stderr);
    let again = shop.run(&["init", "host.sqlite", "--out", "new.yaml"]);
    assert_eq!(again.status, 64);
    assert!(again.stderr.contains("new.yaml"), "{}", again.stderr);
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let shop = Shop::new();
    let mut child = shop.command(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = shop::ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn the_schema_is_json() {
    let schema = Shop::new().json(&["schema"]);
    assert!(schema["$defs"]["pipeline"]["properties"]["mapping"].is_object());
}

#[test]
fn no_colours_where_nobody_sees_them() {
    let shop = Shop::new();
    for args in [&["plan", "items"][..], &["status"], &["verify", "nope"]] {
        let ran = shop.run(args);
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn check_says_how_each_target_keeps_late_writers_out() {
    let shop = Shop::new();
    let checked = shop.run(&["check", "--connect"]);
    assert_eq!(checked.status, 0, "{}", checked.stderr);
    assert_eq!(checked.stdout.matches("fides.yaml:7:9  targets.copy\n").count(), 1, "{}", checked.stdout);
    assert!(checked.stdout.contains("checks its lane's token"), "{}", checked.stdout);
    assert!(!shop.run(&["check"]).stdout.contains("token"), "nobody was asked");
}

#[test]
fn every_command_logs_when_it_is_asked_to() {
    let shop = Shop::new();
    for args in
        [&["demo"][..], &["init", "host.sqlite"], &["check", "--connect"], &["sync", "--once"], &["verify", "items"]]
    {
        let quiet = shop.run(args);
        let logged = shop.run(&[args, &["--log-level", "trace"]].concat());
        assert_eq!((quiet.status, logged.status), (0, 0), "{args:?}: {}", logged.stderr);
        let lines = |stderr: &str| {
            stderr.lines().filter(|line| line.contains("\"log.level\":") || line.contains("TRACE")).count()
        };
        assert_eq!(lines(&quiet.stderr), 0, "{args:?}");
        assert!(lines(&logged.stderr) > 0, "{args:?}: {}", logged.stderr);
    }
}
