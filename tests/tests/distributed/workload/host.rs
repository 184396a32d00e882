//! The host of the workload, on either server.

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use crate::follows;
use crate::stand::{Stand, variable};

pub enum Host {
    Postgres(PgConnection),
    MariaDb { connection: MySqlConnection, database: String },
}

impl Host {
    pub async fn postgres(name: &str, options: &str) -> (Stand, Self) {
        let stand = Stand::unscheduled(name, options).await;
        let connection = stand.connect_host().await;
        (stand, Self::Postgres(connection))
    }

    /// A database of its own beside the stand's, which only has the target then.
    pub async fn mariadb(name: &str, options: &str) -> (Stand, Self) {
        let server = variable("FIDES_TEST_MARIADB_URL", "mariadb");
        let database = format!("fides_{name}_{}", uuid::Uuid::now_v7().simple());
        let url = format!("{server}/{database}");
        let mut connection = MySqlConnection::connect(&server).await.unwrap();
        run(&mut connection, &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4; USE {database}")).await;
        (Stand::with_host(name, options, url).await, Self::MariaDb { connection, database })
    }

    pub async fn run(&mut self, sql: &str) {
        match self {
            Self::Postgres(connection) => follows::run(connection, sql).await,
            Self::MariaDb { connection, .. } => run(connection, sql).await,
        }
    }

    /// So many records with three lines each.
    pub async fn fill(&mut self, rows: i64) {
        let (large, moment, stored, numbers) = match self {
            Self::Postgres(_) => {
                let stored = "ALTER TABLE items ALTER COLUMN body SET STORAGE EXTERNAL";
                ("text", "timestamptz", stored, format!("generate_series(1, {rows}) AS numbers(seq)"))
            }
            Self::MariaDb { .. } => ("longtext", "timestamp", "DO 0", format!("seq_1_to_{rows}")),
        };
        for sql in [
            format!(
                "CREATE TABLE items (id bigint PRIMARY KEY, name varchar(100) NOT NULL, price decimal(12,2), stock int, \
                 active boolean, changed {moment} NOT NULL DEFAULT current_timestamp, ratio double precision, \
                 body {large}, n bigint NOT NULL)"
            ),
            stored.to_owned(),
            "CREATE TABLE parts (item bigint, no int, quantity int, n bigint NOT NULL, PRIMARY KEY (item, no))"
                .to_owned(),
            format!(
                "INSERT INTO items (id, name, price, stock, active, ratio, n) \
                 SELECT seq, concat('Stück № ', seq), (seq % 100000) / 100.0, seq % 1000, seq % 3 = 0, seq / 3.0, 0 FROM {numbers}"
            ),
            format!("INSERT INTO parts SELECT seq, 0, 0, 0 FROM {numbers}"),
            format!("INSERT INTO parts SELECT seq, 1, seq % 9, 0 FROM {numbers}"),
            format!("INSERT INTO parts SELECT seq, 2, seq % 7, 0 FROM {numbers}"),
        ] {
            self.run(&sql).await;
        }
    }

    /// Drops what the stand does not.
    pub async fn close(mut self, stand: &Stand) {
        match &mut self {
            Self::Postgres(_) => follows::forget_slots(stand).await,
            Self::MariaDb { connection, database } => run(connection, &format!("DROP DATABASE {database}")).await,
        }
    }
}

async fn run(connection: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}
