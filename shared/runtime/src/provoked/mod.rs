//! Everything that docs/metrics.md, the rules for alerts and the dashboards name is told by a process in which it happens: the
//! runtime's own loops, over fakes and on a paused clock. The other way round no rule, no panel and no page names what nobody tells.

mod alerts;
mod metrics;
mod scenario;
mod stand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

use stand::Stand;

/// What was told while everything happened.
struct Told {
    /// Names of metrics that have told more than nothing.
    metrics: BTreeSet<String>,
    /// The labels of every metric that was told at all.
    labels: BTreeMap<String, BTreeSet<String>>,
    lines: Vec<Value>,
}

/// It happens once for all tests, on a thread of its own: lines are those of a thread.
static TOLD: LazyLock<Told> = LazyLock::new(|| {
    let happened = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut stand = Stand::start().await;
            scenario::happens(&mut stand).await;
            stand.told()
        })
    });
    happened.join().expect("everything happened; see above what did not")
});
