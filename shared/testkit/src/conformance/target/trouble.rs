//! A target that is gone, refuses who asks, is busy, or loses the connection.

use std::time::Duration;

use fides_core::FaultKind;
use fides_core::port::Outcome;

use super::{TargetFixture, Writer, failed, named, people, upsert};

/// What is to be broken between a fixture's target and its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every write is told to come again after [`PATIENCE`].
    Throttled,
    /// The next write takes place, and its answer is lost.
    Unanswered,
}

/// What a throttled store asks for.
pub const PATIENCE: Duration = Duration::from_millis(7);

/// It is not there: no record is to blame.
pub async fn a_store_that_is_gone_is_unavailable(fixture: &dyn TargetFixture) {
    let fault = fixture.gone().await.describe(&fixture.namespace("people")).await.expect_err("nobody listens there");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
}

/// It refuses who asks: no record is to blame, and the secret is not told.
pub async fn a_wrong_credential_is_unavailable(fixture: &dyn TargetFixture) {
    let (target, secret) = fixture.unauthorised().await;
    let fault = target.describe(&fixture.namespace("people")).await.expect_err("it is refused");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(!fault.to_string().contains(secret), "{fault}");
}

/// A store that is busy says for how long, and is written once it is not.
pub async fn a_throttled_store_says_how_long(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    fixture.make(Trouble::Throttled).await;
    let changes = [upsert(1, 1, "a"), upsert(1, 2, "b")];
    for outcome in writer.apply(&changes).await {
        let FaultKind::Throttled { after } = failed(&outcome).kind else { panic!("{outcome:?}") };
        assert!(after <= PATIENCE, "{after:?}");
    }
    fixture.mend().await;
    writer.write(&changes).await;
    assert_eq!(writer.names().await, named(&[(1, "a"), (2, "b")]));
}

/// L5: what was not answered is unknown, and written again it does no harm.
pub async fn a_write_without_an_answer_is_unknown(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    fixture.make(Trouble::Unanswered).await;
    let outcomes = writer.apply(&[upsert(1, 1, "a")]).await;
    assert!(matches!(outcomes[..], [Outcome::Unknown(_)]), "{outcomes:?}");
    fixture.mend().await;
    assert_eq!(writer.names().await, named(&[(1, "a")]), "it took place");
    writer.write(&[upsert(1, 1, "a")]).await;
    assert_eq!(writer.names().await, named(&[(1, "a")]));
}
