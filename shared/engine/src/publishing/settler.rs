//! Deliveries leave the queue together: for a broker the settlement of many costs what that of one does, and it settles one as
//! durably as it keeps one.

use std::time::Duration;

use fides_core::Fault;
use fides_core::port::{Consumer, Settling};
use tokio::time::Instant;

use super::lane::Turn;

/// How long deliveries wait for others. What is delivered again after a crash is that much more.
const WAIT: Duration = Duration::from_millis(20);
/// So many wait for no others.
const WAITING_MAX: usize = 8;

/// Deliveries that are written and marked (L2), and have yet to leave the queue. Its futures are cancel-safe: a settlement that
/// has begun goes on with the next call.
pub(super) struct Settler {
    waiting_max: usize,
    waiting: Vec<u64>,
    /// When they have waited for long enough.
    due: Option<Instant>,
    /// Of those that wait; nothing has happened yet.
    next: Option<Settling>,
    under_way: Option<Settling>,
}

impl Settler {
    /// `unsettled_max`: what the queue hands out before some of it is settled. It must never wait for that.
    pub(super) fn new(unsettled_max: usize) -> Self {
        let waiting_max = WAITING_MAX.min(unsettled_max / 4);
        Self { waiting_max, waiting: Vec::new(), due: None, next: None, under_way: None }
    }

    /// Deliveries are done with.
    pub(super) fn add(&mut self, tags: &[u64], consumer: &mut dyn Consumer) {
        self.due.get_or_insert_with(|| Instant::now() + WAIT);
        self.waiting.extend_from_slice(tags);
        self.next = Some(consumer.settle(&self.waiting));
        if self.waiting.len() >= self.waiting_max {
            self.hurry();
        }
    }

    /// What waits has waited for long enough.
    pub(super) fn hurry(&mut self) {
        self.due = self.due.map(|due| due.min(Instant::now()));
    }

    /// Whether everything is settled.
    pub(super) fn is_idle(&self) -> bool {
        self.next.is_none() && self.under_way.is_none()
    }

    /// Settles everything once it has waited for long enough.
    pub(super) async fn when_due(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        self.end(turn).await?;
        if let Some(due) = self.due {
            tokio::time::sleep_until(due).await;
        }
        self.all(turn).await
    }

    /// Works, and settles meanwhile what has waited for long enough. Work that is done waits for no settlement; one that fails
    /// stops no work.
    pub(super) async fn beside<T>(&mut self, turn: &mut Turn, work: impl Future<Output = T>) -> (Result<(), Fault>, T) {
        let mut work = std::pin::pin!(work);
        let settled = tokio::select! {
            biased;
            settled = self.when_due(turn) => settled,
            done = &mut work => return (Ok(()), done),
        };
        (settled, work.await)
    }

    /// Settles everything.
    pub(super) async fn all(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        self.end(turn).await?;
        self.under_way = self.next.take();
        self.waiting.clear();
        self.due = None;
        self.end(turn).await
    }

    /// Waits for the settlement that is under way, if there is one.
    async fn end(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        let settled = under_way.await;
        self.under_way = None;
        settled?;
        turn.worked = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use fides_core::port::Delivery;

    use super::*;

    /// What a settlement takes.
    const ONE: Duration = Duration::from_millis(2);

    /// What was settled, each time.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Vec<u64>>>>);

    #[async_trait]
    impl Consumer for Told {
        async fn next(&mut self) -> Result<Delivery, Fault> {
            std::future::pending().await
        }

        fn settle(&mut self, tags: &[u64]) -> Settling {
            let (told, tags) = (self.0.clone(), tags.to_vec());
            Box::pin(async move {
                tokio::time::sleep(ONE).await;
                told.lock().unwrap().push(tags);
                Ok(())
            })
        }

        fn unsettled_max(&self) -> usize {
            100
        }
    }

    impl Told {
        fn all(&self) -> Vec<Vec<u64>> {
            self.0.lock().unwrap().clone()
        }
    }

    /// Settles what waits; how long that took.
    async fn emptied(settler: &mut Settler) -> Duration {
        let began = Instant::now();
        settler.when_due(&mut Turn::default()).await.unwrap();
        assert!(settler.is_idle());
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn deliveries_leave_the_queue_together() {
        let (mut told, mut turn) = (Told::default(), Turn::default());
        let mut settler = Settler::new(100);
        for tag in 1..=3 {
            settler.add(&[tag], &mut told);
            settler.beside(&mut turn, std::future::ready(())).await.0.unwrap();
        }
        assert!(told.all().is_empty() && !turn.worked && !settler.is_idle());
        let began = Instant::now();
        // Given up again and again, as for a round.
        while tokio::time::timeout(Duration::from_millis(1), settler.when_due(&mut turn)).await.is_err() {}
        assert_eq!(began.elapsed(), WAIT + ONE);
        assert_eq!(told.all(), [[1, 2, 3]]);
        assert!(settler.is_idle() && turn.worked);
    }

    #[tokio::test(start_paused = true)]
    async fn many_and_hurried_ones_wait_for_no_others() {
        let mut told = Told::default();
        let mut settler = Settler::new(100);
        settler.add(&[1, 2, 3, 4, 5, 6, 7, 8], &mut told);
        assert_eq!(emptied(&mut settler).await, ONE);
        settler.add(&[9], &mut told);
        assert_eq!(emptied(&mut settler).await, WAIT + ONE);
        settler.add(&[10], &mut told);
        settler.hurry();
        assert_eq!(emptied(&mut settler).await, ONE);
        // A queue that hands out few at a time is never kept waiting.
        let mut settler = Settler::new(3);
        settler.add(&[11], &mut told);
        assert_eq!(emptied(&mut settler).await, ONE);
        assert_eq!(told.all(), [vec![1, 2, 3, 4, 5, 6, 7, 8], vec![9], vec![10], vec![11]]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_waits_for_no_settlement_and_is_not_stopped_by_one() {
        let (mut told, mut turn) = (Told::default(), Turn::default());
        let mut settler = Settler::new(100);
        settler.add(&[1], &mut told);
        let work = |time| async move {
            tokio::time::sleep(time).await;
            time
        };
        // It becomes due in the middle of the work, and ends in that of the next.
        let (settled, done) = settler.beside(&mut turn, work(WAIT + ONE / 2)).await;
        assert!(settled.is_ok() && done == WAIT + ONE / 2 && told.all().is_empty());
        assert_eq!(settler.beside(&mut turn, work(ONE)).await.1, ONE);
        assert_eq!(told.all(), [[1]]);
        settler.under_way = Some(Box::pin(async { Err(Fault::transient("the broker is gone")) }));
        let (settled, done) = settler.beside(&mut turn, work(WAIT)).await;
        assert!(settled.is_err() && done == WAIT);
    }

    /// What comes while a settlement is under way is of the next one.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_settled_twice_or_forgotten() {
        let (mut told, mut turn) = (Told::default(), Turn::default());
        let mut settler = Settler::new(100);
        settler.add(&[1], &mut told);
        tokio::time::timeout(WAIT + ONE / 2, settler.when_due(&mut turn)).await.unwrap_err();
        settler.add(&[2], &mut told);
        settler.all(&mut turn).await.unwrap();
        assert_eq!(told.all(), [[1], [2]]);
    }
}
