//! `${…}`, secrets in files, and that no secret is ever shown.

use secrecy::ExposeSecret;

use super::super::{Environment, Store};
use super::{ORDERS, pipeline, read, refused, refused_with};

fn with_url(line: &str) -> String {
    format!(
        "hosts:\n  shop: {{ kind: postgres, {line} }}\ntargets:\n  search: {{ kind: sqlite, path: s }}\npipelines:\n{ORDERS}"
    )
}

fn url(line: &str, variables: &[(&str, &str)]) -> String {
    let config = read(&with_url(line), variables).unwrap_or_else(|errors| panic!("{errors}"));
    let Store::Postgres { url, .. } = &config.hosts["shop"] else { panic!() };
    url.expose_secret().to_owned()
}

#[test]
fn variables_are_put_in() {
    let variables = [("USER", "ann"), ("PASSWORD", "${USER}"), ("EMPTY", "")];
    assert_eq!(url("url: 'postgres://${USER}:${PASSWORD}@db'", &variables), "postgres://ann:${USER}@db");
    assert_eq!(url("url: 'postgres://${NONE:-a:b}@${EMPTY:-db}'", &variables), "postgres://a:b@db");
    assert_eq!(url("url: 'postgres://$${USER}$@db'", &variables), "postgres://${USER}$@db");
}

#[test]
fn variables_that_are_not_set() {
    assert_eq!(
        refused(&with_url("url: 'postgres://${A}:${B}@db'")),
        "fides.yaml:2:32  hosts.shop.url\n    found ${A}, a variable that is not set, expected a url that begins with \
         postgres:// or postgresql:// (set A, or write ${A:-default})\n\
         fides.yaml:2:32  hosts.shop.url\n    found ${B}, a variable that is not set, expected a url that begins with \
         postgres:// or postgresql:// (set B, or write ${B:-default})"
    );
}

#[test]
fn a_variable_without_an_end() {
    for text in ["${A", "${}", "${1}", "${A B}"] {
        let message = refused(&with_url(&format!("url: 'postgres://{text}'")));
        assert!(message.contains("found `${` that does not begin a ${NAME}, expected"), "{message}");
    }
}

#[test]
fn headers_that_cannot_be_sent_are_refused_and_not_shown() {
    let otlp = |headers: &str| {
        refused(&format!("telemetry: {{ otlp: {{ endpoint: 'http://c', headers: {headers} }} }}\n{}", pipeline("")))
    };
    let value = otlp("{ authorization: \"hunter2\\n\" }");
    assert!(value.contains("telemetry.otlp.headers.authorization\n    found another text (not shown)"), "{value}");
    assert!(!value.contains("hunter2"), "{value}");
    let name = otlp("{ 'two words': x }");
    assert!(name.contains("expected the name of an HTTP header"), "{name}");
}

#[test]
fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_not_shown() {
    let dashboard = |keys: &str| refused(&format!("dashboard: {{ {keys} }}\n{}", pipeline("")));
    for token in ["hunter2", "hunter2 hunter2 hunter2", "hünter2hünter2hünter2"] {
        let said = dashboard(&format!("token: '{token}'"));
        assert!(said.contains("dashboard.token\n    found another token (not shown), expected a token of"), "{said}");
        assert!(!said.contains(token), "{said}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let said = dashboard(&format!("token_file: '{}'", file.path().display()));
    assert!(said.contains("dashboard.token_file\n    found another token (not shown)"), "{said}");
    let both = dashboard(&format!("token: 0123456789abcdef, token_file: '{}'", file.path().display()));
    assert!(both.contains("`token_file` beside `token`"), "{both}");
}

#[test]
fn a_url_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "postgres://${A}@db\r\n").unwrap();
    let line = format!("url_file: {}", file.display());
    assert_eq!(url(&line, &[]), "postgres://${A}@db");

    let message = refused(&with_url(&format!("url: 'postgres://db', {line}")));
    assert!(
        message.contains("hosts.shop\n    found `url` and `url_file`, expected exactly one of `url` and `url_file`"),
        "{message}"
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    assert_eq!(
        refused(&with_url("url_file: none")),
        "fides.yaml:2:37  hosts.shop.url_file\n    \
         found \"none\", which cannot be read: No such file or directory (os error 2), expected a file that holds the url"
    );
}

#[test]
fn a_secret_is_never_shown() {
    let secret = "hunter2";
    let variables = [("PASSWORD", secret), ("FIDES__HOSTS__OLD__URLL", "postgres://u:hunter2@db")];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "mysql://u:hunter2@db").unwrap();
    let lines = [
        "url: 'mysql://u:hunter2@db'".to_owned(),
        "url: hunter2".to_owned(),
        "url: 'mysql://u:${PASSWORD}@db'".to_owned(),
        "url: 'postgres://u:hunter2@${HOST}'".to_owned(),
        "url: 'postgres://u:${P:-hunter2@db'".to_owned(),
        "url: { 'postgres://u:hunter2@db': 1 }".to_owned(),
        "url: [ 'postgres://u:hunter2@db' ]".to_owned(),
        "'postgres://u:hunter2@db'".to_owned(),
        "urll: 'postgres://u:hunter2@db'".to_owned(),
        "url: 'postgres://db', connections: 'postgres://u:hunter2@db'".to_owned(),
        "url: 'postgres://db', connections: 'host=db password=hunter2'".to_owned(),
        "url_file: 'postgres://u:hunter2@db'".to_owned(),
        format!("url_file: '{}'", file.display()),
        "kind: '${PASSWORD}', url: 'postgres://db'".to_owned(),
        "url: 'postgres://u:hunter2@db".to_owned(),
        "url: \"postgres://u:hunter2\\q\"".to_owned(),
    ];
    for line in lines {
        let message = refused_with(&with_url(&line), &variables);
        assert!(!message.contains(secret), "{line}\n{message}");
        let errors = read(&with_url(&line), &variables).unwrap_err();
        assert!(!format!("{errors:?}").contains(secret), "{line}\n{errors:?}");
    }
}

#[test]
fn debug_hides_secrets() {
    let config = read(&with_url("url: 'postgres://u:hunter2@db'"), &[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let environment: Environment = [("PASSWORD", "hunter2")].into_iter().collect();
    assert_eq!(format!("{environment:?}"), "{\"PASSWORD\"}");
}

#[test]
fn a_password_does_not_hide_a_shared_store() {
    let text = pipeline("host: old\nfrom: orders\ntarget: copy\ninto: orders");
    let message = refused(&text);
    assert!(message.contains("which is what the pipeline reads") && !message.contains("hunter2"), "{message}");
}

#[test]
fn an_error_shows_the_variable_and_not_its_value() {
    let keys = ["host", "from", "into", "schedule", "timezone", "delete"];
    let text = pipeline(&keys.map(|key| format!("{key}: '${{P}}'")).join("\n"));
    let message = refused_with(&text, &[("P", "hunter2")]);
    assert!(message.contains("pipelines.p.host\n    found \"${P}\", expected the name of a host"), "{message}");
    assert!(message.lines().count() >= 8 && !message.contains("hunter2"), "{message}");
}
