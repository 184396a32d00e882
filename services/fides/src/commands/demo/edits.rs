//! What somebody does to the host, and what an import is then expected to send: counted by SQL, from a copy of the host
//! made before the edits, so that it owes nothing to the hashes it is compared with.

use std::path::Path;

use sqlx::Connection;

use super::host;
use crate::failure::Failure;

/// One edit.
pub struct Edit {
    /// In words.
    pub what: &'static str,
    sql: &'static str,
}

/// The edits, in this order.
pub const EDITS: [Edit; 5] = [
    Edit {
        what: "the three largest cities of Portugal are renamed;",
        sql: "UPDATE city SET name = 'Nova ' || name WHERE geoname_id IN
              (SELECT geoname_id FROM city WHERE country_code = 'PT' ORDER BY population DESC, geoname_id LIMIT 3)",
    },
    Edit {
        what: "every city of New Zealand grows by a thousand people;",
        sql: "UPDATE city SET population = population + 1000 WHERE country_code = 'NZ' AND population > 0",
    },
    Edit {
        what: "a new city is founded, with two names;",
        sql: "INSERT INTO city (geoname_id, name, ascii_name, lat, lon, fcode, country_code, population, dem, tz, is_capital, mod_date)
              VALUES (99000001, 'Fidesia', 'Fidesia', '47.05048', '8.30635', 'PPL', 'CH', 1024, 436, 'Europe/Zurich', 0, '2024-02-29');
              INSERT INTO city_name VALUES (99000001, 'Grek', 'Φίδεσια'), (99000001, 'Cyrl', 'Фидесия')",
    },
    Edit {
        what: "the four smallest cities of Belgium are deleted, with their names;",
        sql: "CREATE TEMP TABLE gone AS SELECT geoname_id FROM city WHERE country_code = 'BE' AND population > 0
              ORDER BY population, geoname_id LIMIT 4;
              DELETE FROM city_name WHERE geoname_id IN (SELECT geoname_id FROM gone);
              DELETE FROM city WHERE geoname_id IN (SELECT geoname_id FROM gone)",
    },
    Edit {
        what: "one row of another table: Switzerland gets its Latin name, which is in every document of its cities.",
        sql: "UPDATE country SET name = 'Confoederatio Helvetica' WHERE iso2 = 'CH'",
    },
];

/// What SQL says has changed.
pub struct Expected {
    /// Cities that differ, by themselves or by their country.
    pub changed: u64,
    /// Cities that were not there before.
    pub new: u64,
    /// Cities of the target that are gone.
    pub gone: u64,
}

impl Expected {
    /// Records that have to travel.
    pub fn total(&self) -> u64 {
        self.changed + self.new + self.gone
    }
}

const CHANGED: &str = "SELECT count(*) FROM city c JOIN country k ON k.iso2 = c.country_code
    JOIN before.city o ON o.geoname_id = c.geoname_id JOIN before.country p ON p.iso2 = o.country_code
    WHERE (c.name, c.population, k.name) IS NOT (o.name, o.population, p.name)";
const NEW: &str = "SELECT count(*) FROM city WHERE geoname_id NOT IN (SELECT geoname_id FROM before.city)";
// A city without a known population was never in the target.
const GONE: &str = "SELECT count(*) FROM before.city
    WHERE population > 0 AND geoname_id NOT IN (SELECT geoname_id FROM main.city)";

/// Edits the host, and counts what that changed. The copy lies in `folder` for as long.
pub async fn make(file: &Path, folder: &Path) -> Result<Expected, Failure> {
    let copy = folder.join("before.sqlite");
    let expected = edit(file, &copy).await.map_err(|error| host::failed("the edits", &error))?;
    std::fs::remove_file(&copy).map_err(|error| super::unusable(folder, &error))?;
    Ok(expected)
}

async fn edit(file: &Path, copy: &Path) -> Result<Expected, sqlx::Error> {
    let mut host =
        sqlx::SqliteConnection::connect_with(&sqlx::sqlite::SqliteConnectOptions::new().filename(file)).await?;
    let copy = copy.to_string_lossy().into_owned();
    sqlx::query("VACUUM INTO ?").bind(&copy).execute(&mut host).await?;
    let mut transaction = host.begin().await?;
    for edit in EDITS {
        sqlx::raw_sql(edit.sql).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    sqlx::query("ATTACH DATABASE ? AS before").bind(&copy).execute(&mut host).await?;
    let mut counts = [0u64; 3];
    for (count, sql) in counts.iter_mut().zip([CHANGED, NEW, GONE]) {
        *count = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut host).await?.unsigned_abs();
    }
    host.close().await?;
    let [changed, new, gone] = counts;
    Ok(Expected { changed, new, gone })
}
