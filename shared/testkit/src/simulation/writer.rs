//! What the simulation's writer does to the host.

use std::collections::BTreeMap;

use super::planted::Planted;
use super::world::{ANCHOR, World};

/// Keys that the writer changes; few, so that changes meet.
const KEYS: i64 = 10;
/// Values that it writes; few, so that records return to what they were (A, B, A).
const VALUES: i64 = 2;

impl World {
    /// One transaction.
    pub(super) fn commit(&self) {
        if self.plan.planted == Some(Planted::ValuesChangeHands) { self.exchange() } else { self.change() }
    }

    fn change(&self) {
        let changes: Vec<(i64, Option<i64>)> = (0..=self.draw(4))
            .map(|_| {
                let value = self.draw(VALUES as u64 + 1) as i64;
                (self.draw(KEYS as u64) as i64, (value < VALUES).then_some(value))
            })
            .collect();
        // Twice in one transaction: only the sequence tells which is newer (DESIGN §5).
        let again = changes
            .first()
            .filter(|_| self.draw(3) == 0)
            .map(|(key, value)| (*key, value.map_or(Some(0), |value| Some((value + 1) % VALUES))));
        self.host.commit(&changes.into_iter().chain(again).collect::<Vec<_>>());
    }

    /// Values that no two records share change hands, among two or three; and records come and go.
    fn exchange(&self) {
        let rows: BTreeMap<i64, i64> = self.host.rows().into_iter().filter(|(id, _)| *id != ANCHOR).collect();
        if rows.len() < 3 || self.draw(4) == 0 {
            let key = self.draw(KEYS as u64) as i64;
            let free = (VALUES..=VALUES + KEYS).find(|value| rows.values().all(|held| held != value));
            self.host.commit(&[(key, free.filter(|_| rows.len() < 3 || !rows.contains_key(&key)))]);
            return;
        }
        let ids: Vec<i64> = rows.keys().copied().collect();
        let (first, count) = (self.draw(ids.len() as u64) as usize, 2 + self.draw(2) as usize);
        let ring: Vec<i64> = ids.iter().cycle().skip(first).take(count).copied().collect();
        let next = ring.iter().cycle().skip(1);
        self.host.commit(&ring.iter().zip(next).map(|(id, next)| (*id, Some(rows[next]))).collect::<Vec<_>>());
    }
}
