//! Unique values that change hands while their records' changes are in different lanes.

use crate::follows::{is_followed, nothing_is_planned, run, stop};
use crate::stand::Stand;

const SWAPS: i64 = 40;

/// The host gives the names of pairs of rows to each other, as a table without deferred constraints has to: by a third name. The
/// target lets no two rows have the same.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_swapped_under_a_unique_index_of_the_target() {
    let stand = Stand::unscheduled("swaps", "events: log\n    limits: { lanes: 4, lease_ms: 3000 }").await;
    let mut host = stand.fill(1_000).await;
    run(&mut host, "UPDATE items SET name = name || ' ' || id; CREATE UNIQUE INDEX ON items (name)").await;
    let services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    run(&mut stand.connect().await, "CREATE UNIQUE INDEX ON copy (name)").await;
    for one in (1..2 * SWAPS).step_by(2) {
        let other = one + 1;
        let swap = format!(
            "BEGIN; CREATE TEMP TABLE names ON COMMIT DROP AS SELECT id, name FROM items WHERE id IN ({one}, {other}); \
             UPDATE items SET name = 'on its way' WHERE id = {one}; \
             UPDATE items SET name = (SELECT name FROM names WHERE id = {one}) WHERE id = {other}; \
             UPDATE items SET name = (SELECT name FROM names WHERE id = {other}) WHERE id = {one}; COMMIT"
        );
        run(&mut host, &swap).await;
    }
    // All rows move up by one: a ring through all lanes.
    let rotate = "BEGIN; CREATE TEMP TABLE names ON COMMIT DROP AS SELECT id, name FROM items WHERE id BETWEEN 501 AND 520; \
        UPDATE items SET name = 'on its way ' || id WHERE id BETWEEN 501 AND 520; \
        UPDATE items SET name = (SELECT name FROM names n WHERE n.id = 501 + (items.id - 500) % 20) WHERE id BETWEEN 501 AND 520; COMMIT";
    run(&mut host, rotate).await;
    stand.becomes_equal().await;
    nothing_is_planned(&stand).await;
    stop(&stand, services).await;
    stand.close().await;
}
