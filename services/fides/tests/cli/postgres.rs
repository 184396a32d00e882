//! A PostgreSQL as host, on the server of `FIDES_TEST_POSTGRES_URL`.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::init::included;
use crate::shop::{Ran, Shop, block_on, ran};

const CONFIG: &str = "
backplane:
  embedded: { path: ./state.fides }
hosts:
  shop: { kind: postgres, url: \"${HOST_URL}\" }
targets:
  copy: { kind: sqlite, path: ./target.sqlite }
pipelines:
  countries:
    host: shop
    from: country
    target: copy
    into: countries
    create: true
    columns: '*'
";

/// A database of the test's own, dropped at the end.
struct Database {
    server: String,
    url: String,
    name: String,
}

impl Database {
    fn create(test: &str) -> Self {
        let server = std::env::var("FIDES_TEST_POSTGRES_URL").expect(
            "FIDES_TEST_POSTGRES_URL is not set: run the test as `tests/parts/postgres cargo test -p fides`, or set it \
             to postgres://superuser:password@127.0.0.1:port/postgres of a throwaway cluster",
        );
        let name = format!("fides_cli_{test}_{}", std::process::id());
        execute(&server, &format!("CREATE DATABASE {name}"));
        let (address, database) = server.rsplit_once('/').unwrap();
        let options = database.split_once('?').map_or(String::new(), |(_, options)| format!("?{options}"));
        Self { url: format!("{address}/{name}{options}"), server: server.clone(), name }
    }

    fn execute(&self, sql: &str) {
        execute(&self.url, sql);
    }

    fn run(&self, shop: &Shop, args: &[&str]) -> Ran {
        ran(shop.command(args).env("HOST_URL", &self.url).output().unwrap())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn execute(url: &str, sql: &str) {
    block_on(async move {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn a_text_key_without_an_index_in_c_is_warned_of() {
    let (shop, database) = (Shop::new(), Database::create("collation"));
    database.execute("CREATE TABLE country (code text COLLATE \"en-x-icu\" PRIMARY KEY, name text)");
    shop.configure(CONFIG);
    let checked = database.run(&shop, &["check", "--connect"]);
    assert_eq!(checked.status, 0, "{}{}", checked.stdout, checked.stderr);
    let said = "warning: fides.yaml:10:5  pipelines.countries.key\n    text key (code) has no index in C collation: read by \
                one sorted cursor; to read in ranges: CREATE INDEX ON \"public\".\"country\" (\"code\" COLLATE \"C\")";
    assert!(checked.stdout.contains(said), "{}", checked.stdout);
    database.execute("CREATE INDEX ON country (code COLLATE \"C\")");
    let checked = database.run(&shop, &["check", "--connect"]);
    assert!(checked.status == 0 && !checked.stdout.contains("warning:"), "the advice helps: {}", checked.stdout);
}

#[test]
fn init_keeps_tables_of_two_schemas_apart() {
    let (shop, database) = (Shop::new(), Database::create("init"));
    database.execute(
        "CREATE SCHEMA shop; CREATE TABLE item (id bigint PRIMARY KEY, name text);
         CREATE TABLE shop.item (id bigint PRIMARY KEY, item bigint REFERENCES item, other bigint REFERENCES shop.item);
         INSERT INTO item VALUES (1, 'apple'); INSERT INTO shop.item VALUES (7, 1, NULL), (8, NULL, 7)",
    );
    assert_eq!(database.run(&shop, &["init", &database.url, "--out", "new.yaml"]).status, 0);
    let yaml = std::fs::read_to_string(shop.path("new.yaml")).unwrap();
    assert!(!yaml.contains(&database.url) && yaml.contains("${HOST_URL}"), "{yaml}");
    std::fs::write(shop.path("new.yaml"), included(&yaml)).unwrap();
    for args in [&["check", "--connect"][..], &["sync", "--once"], &["verify", "item"], &["verify", "shop_item"]] {
        let ran = database.run(&shop, &[&["--config", "new.yaml"], args].concat());
        assert_eq!(ran.status, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
    }
}
