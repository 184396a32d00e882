//! The checks between pipelines, and between pipelines and stores.

use std::collections::BTreeMap;

use super::form::Reading;
use super::model::Store;
use super::node::{Node, shown_text};
use super::pipeline::Draft;
use super::store::Address;

type Drafts = [(String, Option<Draft>)];
type Stores = [(String, Option<Store>)];

/// Whether every pipeline names a host and a target that exist. Where a section could not be read, none can be told.
pub(super) fn referring(
    reading: &mut Reading<'_>,
    drafts: &Drafts,
    hosts: Option<&Stores>,
    targets: Option<&Stores>,
) -> Option<()> {
    let mut whole = Some(());
    for draft in drafts.iter().filter_map(|(_, draft)| draft.as_ref()) {
        for (what, name, stores) in [("host", &draft.host, hosts), ("target", &draft.target, targets)] {
            let (Some((name, written)), Some(stores)) = (name, stores) else { continue };
            if stores.iter().all(|(known, _)| known != name) {
                let known = || stores.iter().map(|(known, _)| known.as_str());
                let expected = format!("the name of a {what}: {}", known().collect::<Vec<_>>().join(", "));
                whole = reading.refuse_word(written, name, expected, known());
            }
        }
    }
    whole
}

/// L12: no two pipelines write one namespace, and none writes what it reads. Stores are compared by where they lead,
/// not by name.
pub(super) fn apart(reading: &mut Reading<'_>, drafts: &Drafts, hosts: &Stores, targets: &Stores) -> Option<()> {
    let mut whole = Some(());
    let mut writers: BTreeMap<Address, &str> = BTreeMap::new();
    for (id, draft) in drafts.iter().filter_map(|(id, draft)| Some((id, draft.as_ref()?))) {
        let Some((into, written)) = &draft.into else { continue };
        let address = |stores: &Stores, name: &Option<(String, Node)>, namespace| {
            let name = &name.as_ref()?.0;
            let (_, store) = stores.iter().find(|(known, _)| known == name)?;
            Some(Address::of(store.as_ref()?, namespace))
        };
        let Some(output) = address(targets, &draft.target, into) else { continue };
        let input = draft.from.as_ref().and_then(|(from, _)| address(hosts, &draft.host, from));
        let shown = written.scalar().map_or_else(|| shown_text(&into.join(".")), shown_text);
        if input.is_some_and(|input| input == output) {
            let found = format!("{shown}, which is what the pipeline reads");
            whole = reading.refuse_at(&written.spot, found, "another namespace");
        }
        if let Some(writer) = writers.get(&output) {
            let found = format!("{shown}, which pipeline {writer} writes too");
            let expected = "a namespace of its own (L12; declared disjoint scopes come later)";
            whole = reading.refuse_at(&written.spot, found, expected);
        } else {
            writers.insert(output, id);
        }
    }
    whole
}
