//! Work under a lease: renewed while the work goes on, and given up before it runs out (L6).

use std::time::Duration;

use fides_core::Fault;
use fides_core::port::StateStore;
use tokio::time::{Instant, sleep, sleep_until};

/// A lease that this process holds.
pub(crate) struct Held<'a> {
    state: &'a dyn StateStore,
    key: String,
    holder: &'a str,
    ttl_ms: u64,
    /// It holds at least until then, on this process's own clock: counted from before it was asked for.
    until: Instant,
    /// Rises with every take.
    pub(crate) token: u64,
}

impl<'a> Held<'a> {
    /// Takes a lease; `None` while someone else holds it. One that this process still holds is given back and taken
    /// anew, under a new token (L6): a write that was given up together with it may still be on its way, and would land
    /// under the old one.
    pub(crate) async fn take(
        state: &'a dyn StateStore,
        key: String,
        holder: &'a str,
        ttl_ms: u64,
    ) -> Result<Option<Self>, Fault> {
        state.release(&key, holder).await?;
        let until = Instant::now() + Duration::from_millis(ttl_ms);
        let lease = state.lease(&key, holder, ttl_ms).await?;
        Ok(lease.map(|lease| Self { state, key, holder, ttl_ms, until, token: lease.token }))
    }

    /// Asks the store whether this process holds the lease.
    pub(crate) async fn is_held(&self) -> Result<bool, Fault> {
        let lease = self.state.lease(&self.key, self.holder, self.ttl_ms).await?;
        Ok(lease.is_some_and(|lease| lease.token == self.token))
    }

    /// Does `work` while the lease holds. When it is lost, or cannot be renewed in time, `work` is dropped where it
    /// stands, before anybody else can have the lease, and the fault says so. `work` must be safe to drop anywhere, as
    /// after a crash.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            fault = self.keep() => Err(fault),
            done = work => done,
        }
    }

    /// Gives the lease back, so that nobody has to wait until it ends. Where that fails it ends by itself.
    pub(crate) async fn release(self) {
        if let Err(fault) = self.state.release(&self.key, self.holder).await {
            tracing::debug!(lease = self.key, %fault, "not given back: others wait until it ends");
        }
    }

    /// Renews the lease until it is lost.
    async fn keep(&self) -> Fault {
        let pause = Duration::from_millis(self.ttl_ms / 3);
        // What is under way when the time is over must have ended before the next holder begins.
        let margin = Duration::from_millis(self.ttl_ms / 6);
        let mut until = self.until;
        let mut failed: Option<Fault> = None;
        loop {
            let renewal = async {
                sleep(if failed.is_some() { pause / 8 } else { pause }).await;
                let asked = Instant::now();
                (asked, self.state.lease(&self.key, self.holder, self.ttl_ms).await)
            };
            let renewed = tokio::select! {
                biased;
                () = sleep_until(until - margin) => return self.lost(failed),
                renewed = renewal => renewed,
            };
            match renewed {
                (asked, Ok(Some(lease))) if lease.token == self.token => {
                    until = asked + Duration::from_millis(self.ttl_ms);
                    failed = None;
                }
                (_, Ok(_)) => return self.lost(None),
                (_, Err(fault)) => failed = Some(fault),
            }
        }
    }

    fn lost(&self, why: Option<Fault>) -> Fault {
        match why {
            Some(fault) => fault,
            None => Fault::transient(format!("the lease {} was not renewed in time, or taken over", self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use fides_testkit::fake::Disk;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_was_not_given_back_is_taken_anew_under_a_new_token() {
        let state = Disk::new(4).open().state;
        let take = async |holder| Held::take(&*state, "lane/0".into(), holder, 60_000).await.unwrap();
        let first = take("a").await.expect("it is free").token;
        assert!(take("b").await.is_none(), "it is held");
        let second = take("a").await.expect("it is a's own").token;
        assert!(second > first, "{second} after {first}");
    }
}
