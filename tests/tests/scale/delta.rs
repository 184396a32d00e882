//! A full import, one of nothing, one of a hundredth: only what changed travels, in bounded memory.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::stand::{Stand, count, rows, sync, verify};

/// Peak memory of the process.
const PEAK_KIB_MAX: u64 = 150 * 1_024;

fn bounded(what: &str, peak_kib: u64) {
    println!("{what}: peak {} MiB", peak_kib / 1_024);
    assert!(peak_kib < PEAK_KIB_MAX, "{what} took {peak_kib} KiB");
}

#[tokio::test]
async fn postgres_to_postgres() {
    let stand = Stand::new("pg_pg").await;
    let mut host = stand.fill(rows()).await;
    let url = stand.url();
    let config = stand.configure(&format!("{{ kind: postgres, url: \"{url}\" }}"), "public.items", "{}");

    let (first, ran) = sync(&config);
    println!("first: {first}");
    assert_eq!((&first["read"], &first["published"]), (&rows().into(), &rows().into()));
    bounded("first import", ran.peak_kib);
    bounded("verify", verify(&config, rows()).peak_kib);

    let (nothing, ran) = sync(&config);
    println!("nothing changed: {nothing}");
    assert_eq!((&nothing["read"], &nothing["published"]), (&rows().into(), &0.into()));
    bounded("import of nothing", ran.peak_kib);

    sqlx::query("UPDATE items SET stock = stock + 1 WHERE id % 100 = 7").execute(&mut host).await.unwrap();
    let (delta, ran) = sync(&config);
    println!("1 % changed: {delta}");
    assert_eq!(delta["published"], rows() / 100);
    bounded("import of 1 %", ran.peak_kib);
    verify(&config, rows());

    sqlx::query("DELETE FROM items WHERE id % 1000 = 3").execute(&mut host).await.unwrap();
    let (deleted, _) = sync(&config);
    assert_eq!((&deleted["published"], &deleted["deleted"]), (&(rows() / 1000).into(), &(rows() / 1000).into()));
    assert_eq!(count(&mut host, "SELECT count(*) FROM copy WHERE id % 1000 = 3").await, 0);
    verify(&config, rows() - rows() / 1000);
    drop(host);
    stand.close().await;
}

#[tokio::test]
async fn sqlite_to_postgres() {
    let stand = Stand::new("sqlite_pg").await;
    let path = stand.folder.path().join("host.sqlite");
    let mut host = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    let fill = format!(
        "PRAGMA journal_mode = WAL; \
         CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price DECIMAL TEXT, stock INTEGER, \
         active BOOLEAN NOT NULL, attributes JSON, changed TIMESTAMP NOT NULL, ratio REAL); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
         INSERT INTO items SELECT i, 'Stück № ' || i, CASE WHEN i % 17 = 0 THEN NULL ELSE printf('%d.%02d', i / 100, i % 100) END, \
         i % 1000, i % 3 = 0, json_object('größe', i % 50), datetime('2024-01-01', '+' || i || ' seconds'), i / 3.0 FROM n",
        rows()
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut host).await.unwrap();
    let config = stand.configure(&format!("{{ kind: sqlite, path: {} }}", path.display()), "items", "{}");

    let (first, ran) = sync(&config);
    println!("first: {first}");
    assert_eq!(first["published"], rows());
    bounded("first import", ran.peak_kib);
    bounded("verify", verify(&config, rows()).peak_kib);
    let (nothing, _) = sync(&config);
    assert_eq!((&nothing["read"], &nothing["published"]), (&rows().into(), &0.into()));
    sqlx::query("UPDATE items SET stock = stock + 1 WHERE id % 100 = 7").execute(&mut host).await.unwrap();
    let (delta, _) = sync(&config);
    assert_eq!(delta["published"], rows() / 100);
    verify(&config, rows());
    host.close().await.unwrap();
    stand.close().await;
}
