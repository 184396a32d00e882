//! Calls in bounded portions, a few at a time, so that Redis is never blocked long (L10).

use fides_core::Fault;
use futures::stream::{self, StreamExt, TryStreamExt};

/// Calls of one operation that are on their way together.
const CALLS_IN_FLIGHT_MAX: usize = 4;

/// Awaits calls; the answers come in the order of the calls. The first fault ends it: calls that are on their way then may
/// still be carried out.
pub(crate) async fn all<A, F: Future<Output = Result<A, Fault>>>(calls: Vec<F>) -> Result<Vec<A>, Fault> {
    stream::iter(calls).buffered(CALLS_IN_FLIGHT_MAX).try_collect().await
}
