//! Unique values that change hands while their records' changes are in different lanes.

use crate::follows::{is_followed, planned, run, stop};
use crate::stand::Stand;

const SWAPS: i64 = 40;

/// The host gives the names of pairs of rows to each other, as a table without deferred constraints has to: by a third name. The
/// target lets no two rows have the same.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_swapped_under_a_unique_index_of_the_target() {
    let stand = Stand::unscheduled("swaps", "events: log\n    limits: { lanes: 4 }").await;
    let mut host = stand.fill(1_000).await;
    run(&mut host, "CREATE UNIQUE INDEX ON items (name)").await;
    let services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    run(&mut stand.connect().await, "CREATE UNIQUE INDEX ON copy (name)").await;
    for one in (1..2 * SWAPS).step_by(2) {
        let other = one + 1;
        run(
            &mut host,
            &format!(
                "BEGIN; CREATE TEMP TABLE names ON COMMIT DROP AS SELECT id, name FROM items WHERE id IN ({one}, {other}); \
                 UPDATE items SET name = 'on its way' WHERE id = {one}; \
                 UPDATE items SET name = (SELECT name FROM names WHERE id = {one}) WHERE id = {other}; \
                 UPDATE items SET name = (SELECT name FROM names WHERE id = {other}) WHERE id = {one}; COMMIT"
            ),
        )
        .await;
    }
    let swapped: i64 = sqlx::query_scalar("SELECT count(*) FROM items WHERE name NOT LIKE 'Stück № ' || id || '%'")
        .fetch_one(&mut host)
        .await
        .unwrap();
    assert!(swapped >= SWAPS, "{swapped} names were swapped");
    stand.becomes_equal().await;
    assert_eq!(planned(&stand), 0);
    stop(&stand, services).await;
    stand.close().await;
}
