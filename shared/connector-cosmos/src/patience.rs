//! How long something that fails is tried again before it is told.

use std::time::Duration;

use fides_core::{Fault, FaultKind};
use tokio::time::Instant;

/// For so long since the first of the faults.
const PATIENT_FOR: Duration = Duration::from_secs(30);
/// Before the second attempt; twice as long before each after it.
const PAUSE: Duration = Duration::from_millis(100);
const DOUBLED_MAX: u32 = 5;

/// Faults since something succeeded.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    times: u32,
}

impl Patience {
    /// How long to wait after a fault; the fault itself when it does not pass by itself, or did not for too long.
    pub fn wait(&mut self, fault: Fault) -> Result<Duration, Fault> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let wait = match fault.kind {
            FaultKind::Throttled { after } => after.max(PAUSE),
            FaultKind::Transient | FaultKind::Unavailable => PAUSE * 2_u32.pow(self.times.min(DOUBLED_MAX)),
            _ => return Err(fault),
        };
        if since.elapsed() + wait >= PATIENT_FOR {
            return Err(fault);
        }
        self.times += 1;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_for_and_not_for_ever() {
        let (mut patience, began) = (Patience::default(), Instant::now());
        let mut waits = Vec::new();
        let fault = loop {
            match patience.wait(Fault::transient("cut")) {
                Ok(wait) => waits.push(wait.as_millis()),
                Err(fault) => break fault,
            }
            tokio::time::sleep(Duration::from_millis(u64::try_from(waits[waits.len() - 1]).unwrap())).await;
        };
        assert!(fault.to_string().contains("cut") && began.elapsed() < PATIENT_FOR);
        assert_eq!(waits[..7], [100, 200, 400, 800, 1_600, 3_200, 3_200]);
        assert_eq!(waits.len(), 13);
        let throttled = |after| Fault::new(FaultKind::Throttled { after }, "busy");
        assert_eq!(Patience::default().wait(throttled(Duration::from_secs(2))).unwrap(), Duration::from_secs(2));
        assert!(Patience::default().wait(throttled(PATIENT_FOR)).is_err(), "that is told at once");
        assert!(Patience::default().wait(Fault::permanent("no such container")).is_err());
    }
}
