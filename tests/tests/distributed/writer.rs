//! Somebody who changes the host while it is synced.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Updates, inserts and deletes rows until it is told to stop.
pub struct Writer {
    stop: oneshot::Sender<()>,
    working: JoinHandle<u64>,
}

impl Writer {
    pub async fn start(url: &str, rows: i64) -> Self {
        let mut host = PgConnection::connect(url).await.unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let working = tokio::spawn(async move {
            let mut transactions: u64 = 0;
            // A fixed walk over the keys: every run writes the same.
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                transactions += 1;
                let at = i64::try_from(transactions).unwrap().wrapping_mul(7_919).rem_euclid(rows);
                let next = rows + i64::try_from(transactions).unwrap();
                for sql in [
                    "BEGIN".to_owned(),
                    format!("UPDATE items SET stock = coalesce(stock, 0) + 1 WHERE id BETWEEN {at} AND {}", at + 20),
                    format!("DELETE FROM items WHERE id = {}", (at * 3) % rows),
                    format!("INSERT INTO items SELECT {next}, 'neu № {next}', 1.5, 1, true, '{{}}', now(), 0"),
                    "COMMIT".to_owned(),
                ] {
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut host).await.unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            transactions
        });
        Self { stop, working }
    }

    /// Stops after the transaction in hand, and says how many there were.
    pub async fn stop(self) -> u64 {
        self.stop.send(()).unwrap();
        self.working.await.unwrap()
    }
}
