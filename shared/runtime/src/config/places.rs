//! Where each value was written, for what is found out about it only later.

use std::collections::BTreeMap;

use super::errors::Place;
use super::node::Node;

/// Places of a configuration's values, by their paths.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    pub(super) fn of(root: &Node) -> Self {
        let (mut places, mut open) = (BTreeMap::new(), vec![root]);
        while let Some(node) = open.pop() {
            places.insert(node.spot.path.clone(), node.spot.place.clone());
            open.extend(node.children());
        }
        Self(places)
    }

    /// Where the value at a path (`pipelines.orders.key`) was written; where it was not, the nearest one around it.
    pub fn find(&self, path: &str) -> Option<&Place> {
        let mut around = std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0));
        around.find_map(|path| self.0.get(path))
    }
}
