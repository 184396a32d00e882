//! What a configuration without mistakes becomes.

use std::path::PathBuf;

use fides_cloudevents::KeySource;
use secrecy::ExposeSecret;

use super::super::{
    Arity, Backplane, Columns, Delete, Events, Fields, Foreign, Kind, Limits, Literal, LogFormat, Sender, Service,
    Source, Store, load,
};
use super::{EXAMPLE, ORDERS, STORES, accepted, pipeline, read};

fn column(path: &[&str]) -> Source {
    Source::Column { path: path.iter().map(ToString::to_string).collect(), cast: None, default: None }
}

#[test]
fn every_way_to_delete_is_read() {
    let read = |keys| accepted(&pipeline(keys)).pipelines.remove(0);
    let soft = |value| Delete::Soft { field: "gone".into(), value };
    assert_eq!(read("delete: never").delete, Delete::Never);
    assert_eq!(read("delete: { soft: { field: gone, value: true } }").delete, soft(Literal::Bool(true)));
    assert_eq!(read("delete: { soft: { field: gone, value: 7 } }").delete, soft(Literal::Number("7".into())));
    assert_eq!(read("delete: { soft: { field: gone, value: 'yes' } }").delete, soft(Literal::String("yes".into())));
    assert_eq!(read("foreign: delete").foreign, Foreign::Delete);
}

#[test]
fn the_documented_example_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("search");
    std::fs::write(&file, "postgres://writer:pw@search/search\n").unwrap();
    let variables = [("SHOP_PASSWORD", "s3cret"), ("FIDES__TARGETS__SEARCH__URL_FILE", file.to_str().unwrap())];
    let config = read(EXAMPLE, &variables).unwrap_or_else(|errors| panic!("{errors}"));

    assert!(
        matches!(&config.backplane, Backplane::Embedded { path } if path == &PathBuf::from("/etc/fides/state.fides"))
    );
    assert!(matches!(&config.hosts["old"], Store::Sqlite { path } if path == &PathBuf::from("/etc/fides/shop.sqlite")));
    assert_eq!(config.log.format, LogFormat::Auto);
    let [orders, customers, products] = &config.pipelines[..] else { panic!("{:?}", config.pipelines) };
    assert_eq!((orders.id.as_str(), orders.host.as_str(), orders.target.as_str()), ("orders", "shop", "search"));
    assert_eq!(orders.from, ["public", "orders"]);
    assert_eq!(orders.key.as_deref(), Some(&["id".to_owned()][..]));
    assert_eq!((orders.create, &orders.delete, orders.foreign), (true, &Delete::Hard, Foreign::Keep));
    assert_eq!(orders.when.as_deref(), Some(".total > 0"));
    assert_eq!(orders.version_field.as_deref(), Some("fides_version"));
    assert!(matches!(orders.events, Some(Events::Log)), "{:?}", orders.events);
    let schedule = orders.schedule.as_ref().unwrap();
    assert_eq!((schedule.cron.as_str(), schedule.timezone), ("0 */5 * * * *", chrono_tz::Europe::Berlin));
    assert_eq!(orders.limits, Limits { lanes: 8, ..Limits::default() });

    let [customer, lines] = &orders.include[..] else { panic!("{:?}", orders.include) };
    assert_eq!((customer.name.as_str(), customer.arity), ("customer", Arity::One));
    assert_eq!(customer.on, [("id".to_owned(), "customer_id".to_owned())]);
    assert_eq!((lines.order_by.as_slice(), &lines.columns), (&["line_no".to_owned()][..], &Columns::All));
    assert_eq!(lines.include[0].name, "product");

    let Fields::Mapped(mapping) = &orders.fields else { panic!("{:?}", orders.fields) };
    let source = |name: &str| &mapping.iter().find(|(field, _)| field == name).unwrap().1;
    assert_eq!(source("id"), &column(&["id"]));
    assert_eq!(source("customer"), &column(&["customer", "name"]));
    assert_eq!(
        source("place"),
        &Source::Object(vec![("lat".into(), column(&["lat"])), ("lon".into(), column(&["lon"]))])
    );
    let price = Source::Column {
        path: vec!["price".into()],
        cast: Some(Kind::Decimal),
        default: Some(Literal::String("0".into())),
    };
    assert_eq!(source("price"), &price);
    assert_eq!(source("source"), &Source::Const(Literal::String("shop".into())));
    assert_eq!(source("label"), &Source::Jq { program: ".name + \"!\"".into(), kind: Kind::String });

    assert_eq!(customers.fields, Fields::Same(Columns::All));
    let Some(Events::Webhook(webhook)) = &customers.events else { panic!("{:?}", customers.events) };
    let Sender::Signature { secret, header } = &webhook.sender else { panic!("{:?}", webhook.sender) };
    assert_eq!((secret.expose_secret(), header.as_str()), ("change me", "x-signature-256"));
    assert_eq!(
        (&webhook.origins[..], &webhook.hinted.types[..]),
        (&["shop.example.com".to_owned()][..], &["shop.customer.*".to_owned()][..])
    );
    assert_eq!(webhook.hinted.key, [KeySource::Data(vec!["customer".into(), "id".into()])]);
    let Some(Events::Amqp(queue)) = &products.events else { panic!("{:?}", products.events) };
    assert_eq!(
        (queue.exchange.as_str(), &queue.queue, &queue.routing_keys[..]),
        ("shop.events", &None, &["product.#".to_owned()][..])
    );
    assert_eq!((&queue.hinted.types[..], &queue.hinted.key[..]), (&[][..], &[KeySource::Subject][..]));
    assert_eq!(config.intake.listen.to_string(), "127.0.0.1:8081");
    assert_eq!((customers.key.as_ref(), customers.create, customers.schedule.as_ref()), (None, false, None));
    assert_eq!(customers.limits, Limits::default());
}

#[test]
fn what_is_absent_has_its_default() {
    let config = accepted(&format!("{STORES}pipelines:\n{ORDERS}"));
    assert!(
        matches!(&config.backplane, Backplane::Embedded { path } if path == &PathBuf::from("/etc/fides/state.fides"))
    );
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log.level, tracing::Level::INFO);
    assert_eq!((config.service.listen.to_string().as_str(), config.service.grace_seconds), ("127.0.0.1:8080", 30));
    assert!(matches!(config.hosts["old"], Store::Postgres { connections: 4, .. }));
}

#[test]
fn the_limits_of_a_pipeline_lie_over_those_of_the_file() {
    let text = format!("limits: {{ lanes: 2, gather_ms_max: 5 }}\n{}", pipeline("limits: { lanes: 3 }"));
    let config = accepted(&text);
    assert_eq!(config.limits, Limits { lanes: 2, gather_ms_max: 5, ..Limits::default() });
    assert_eq!(config.pipelines[0].limits, Limits { lanes: 3, gather_ms_max: 5, ..Limits::default() });
}

#[test]
fn a_dashboard_listens_on_loopback_and_takes_a_token() {
    let plain = accepted(&super::pipeline("")).dashboard;
    assert_eq!((plain.listen.to_string().as_str(), plain.token.is_none()), ("127.0.0.1:8090", true));
    let text = format!("dashboard: {{ listen: 0.0.0.0:80, token: '0123456789abcdef' }}\n{}", super::pipeline(""));
    let open = accepted(&text).dashboard;
    assert_eq!(open.listen, ([0, 0, 0, 0], 80).into());
    assert_eq!(open.token.unwrap().expose_secret(), "0123456789abcdef");
}

#[test]
fn a_service_listens_where_it_is_told() {
    let pipeline = pipeline("");
    let listen = |listen: &str| accepted(&format!("service: {{ listen: {listen} }}\n{pipeline}")).service.listen;
    assert_eq!(listen("0.0.0.0:80"), ([0, 0, 0, 0], 80).into());
    assert_eq!(listen("'[::]:0'"), ([0u16; 8], 0).into());

    let text = format!("service: {{ listen: '127.0.0.1:${{PORT:-9090}}', grace_seconds: 0 }}\n{pipeline}");
    assert_eq!(accepted(&text).service, Service { listen: ([127, 0, 0, 1], 9090).into(), grace_seconds: 0 });
    let config = read(&text, &[("FIDES__SERVICE__LISTEN", "10.0.0.1:1")]).unwrap();
    assert_eq!(config.service.listen, ([10, 0, 0, 1], 1).into());
}

#[test]
fn lines_have_a_form_and_two_words_name_one() {
    let pipeline = pipeline("");
    let format = |word: &str| accepted(&format!("log: {{ format: {word} }}\n{pipeline}")).log.format;
    assert_eq!((format("ecs"), format("json")), (LogFormat::Ecs, LogFormat::Ecs));
    assert_eq!((format("pretty"), format("auto")), (LogFormat::Pretty, LogFormat::Auto));
}

#[test]
fn a_collector_has_an_endpoint_and_headers() {
    let pipeline = pipeline("");
    assert!(accepted(&pipeline).telemetry.otlp.is_none());
    let text = format!(
        "telemetry: {{ otlp: {{ endpoint: 'https://c:4318', headers: {{ authorization: 'Bearer ${{TOKEN}}' }}, ca_file: ca.pem }} }}\n{pipeline}"
    );
    let config = read(&text, &[("TOKEN", "hunter2")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let otlp = config.telemetry.otlp.unwrap();
    assert_eq!(otlp.endpoint.expose_secret(), "https://c:4318");
    let [(name, value)] = &otlp.headers[..] else { panic!("{otlp:?}") };
    assert_eq!((name.as_str(), value.expose_secret()), ("authorization", "Bearer hunter2"));
    assert_eq!(otlp.ca_file, Some(PathBuf::from("/etc/fides/ca.pem")));
}

#[test]
fn constants_keep_their_digits_and_their_type() {
    let text = pipeline(
        "mapping:\n  a: { const: 12345678901234567890.10 }\n  b: { const: '007' }\n  c: { const: null }\n  d: { const: [true, 1e5, {x: no}] }\n  e: { const: 2024-01-31 }",
    );
    let Fields::Mapped(mapping) = accepted(&text).pipelines.remove(0).fields else { panic!() };
    let number = |text: &str| Literal::Number(text.into());
    let string = |text: &str| Literal::String(text.into());
    let expected = [
        number("12345678901234567890.10"),
        string("007"),
        Literal::Null,
        Literal::Array(vec![Literal::Bool(true), number("1e5"), Literal::Object(vec![("x".into(), string("no"))])]),
        string("2024-01-31"),
    ];
    let found: Vec<_> = mapping.into_iter().map(|(_, source)| source).collect();
    assert_eq!(found, expected.map(Source::Const));
}

#[test]
fn a_name_with_dots_is_given_as_a_list() {
    let config = accepted(&pipeline("from: [main, a.b]\nmapping: { x: [odd.column, inside] }"));
    assert_eq!(config.pipelines[0].from, ["main", "a.b"]);
    assert_eq!(config.pipelines[0].fields, Fields::Mapped(vec![("x".into(), column(&["odd.column", "inside"]))]));
}

#[test]
fn an_alias_stands_for_its_anchor() {
    let config = accepted(&pipeline("mapping: { a: &price { from: price, cast: decimal }, b: *price }"));
    let Fields::Mapped(mapping) = &config.pipelines[0].fields else { panic!() };
    assert_eq!(mapping[0].1, mapping[1].1);
}

#[test]
fn a_file_is_loaded_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fides.yaml");
    std::fs::write(&path, format!("{STORES}pipelines:\n{ORDERS}")).unwrap();
    let config = load(&path).unwrap();
    assert!(matches!(&config.hosts["shop"], Store::Sqlite { path } if path == &folder.path().join("shop.sqlite")));

    let message = load(&folder.path().join("none.yaml")).unwrap_err().to_string();
    assert!(message.contains("none.yaml\n    found a file that cannot be read (No such file"), "{message}");
}

#[test]
fn a_file_from_another_editor() {
    accepted(&format!("\u{feff}{STORES}pipelines:\n{ORDERS}").replace('\n', "\r\n"));
}

#[test]
fn a_distributed_backplane() {
    let backplane = "backplane:\n  amqp: { url: 'amqps://fides:${PW}@mq/prod' }\n  \
                     redis: { url: 'redis://:${PW}@store:6379/0', accept: [appendfsync] }\n";
    let config = read(&format!("{backplane}{STORES}pipelines:\n{ORDERS}"), &[("PW", "s3cret")]).unwrap();
    let Backplane::Distributed { amqp, redis } = &config.backplane else { panic!("{:?}", config.backplane) };
    assert_eq!(amqp.url.expose_secret(), "amqps://fides:s3cret@mq/prod");
    assert_eq!(amqp.admin_queue, "fides.admin");
    assert_eq!((redis.accept.as_slice(), redis.dead_letters_max), (&["appendfsync".to_owned()][..], 100_000));
    assert!(!format!("{config:?}").contains("s3cret"));
}
