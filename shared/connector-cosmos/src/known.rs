//! Items that were written lately, by their addresses: what is known is replaced without a look.
//!
//! It only saves requests. An etag that is no longer the item's fails the condition, and then the item is looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::layout::Address;
use crate::record::There;

/// Items that are remembered for certain (L10): twice as many at most, of some hundred bytes each.
const ITEMS: usize = 50_000;

/// Two generations: when the younger one is full, the older one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<[HashMap<String, There>; 2]>);

impl Known {
    /// What was at an address when it was written last.
    pub fn take(&self, address: &Address) -> Option<There> {
        let (mut generations, name) = (self.generations(), name(address));
        generations.iter_mut().find_map(|generation| generation.remove(&name))
    }

    /// Remembers what was written.
    pub fn put(&self, address: &Address, there: There) {
        let mut generations = self.generations();
        if generations[0].len() >= ITEMS {
            generations.swap(0, 1);
            generations[0].clear();
        }
        generations[0].insert(name(address), there);
    }

    fn generations(&self) -> std::sync::MutexGuard<'_, [HashMap<String, There>; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(address: &Address) -> String {
    format!("{}/{}", address.id, address.partition.json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{Part, Partition};

    fn address(id: usize, region: &str) -> Address {
        Address { id: id.to_string(), partition: Partition(vec![Part::Text(region.to_owned())]) }
    }

    fn there(etag: &str) -> There {
        There { etag: etag.to_owned(), version: None }
    }

    #[test]
    fn an_item_is_known_by_its_whole_address_and_forgotten_in_the_end() {
        let known = Known::default();
        known.put(&address(1, "north"), there("a"));
        known.put(&address(1, "south"), there("b"));
        assert_eq!(known.take(&address(1, "north")).unwrap().etag, "a");
        assert!(known.take(&address(1, "north")).is_none(), "whoever writes it says what is there then");
        for id in 2..ITEMS + 2 {
            known.put(&address(id, "north"), there("c"));
        }
        assert!(known.take(&address(1, "south")).is_some());
        for id in 2..2 * ITEMS + 4 {
            known.put(&address(id, "north"), there("c"));
        }
        assert!(known.take(&address(2, "north")).is_none());
        assert!(known.generations().iter().all(|generation| generation.len() <= ITEMS));
    }
}
