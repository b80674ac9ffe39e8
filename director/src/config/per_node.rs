//! A value that may differ from node to node, so that one file serves both directors.

use std::collections::BTreeMap;

use super::document::Value;
use super::error::{Findings, Located, Origin};
use super::reader::{Mapping, Place};

/// One value for every node, or one for each of the named.
pub(super) enum PerNode<T> {
    Every(Located<T>),
    ByNode(NodeMap<T>),
}

/// A mapping by node name.
pub(super) struct NodeMap<T> {
    origin: Origin,
    values: BTreeMap<String, Located<T>>,
    /// Its keys are not quoted.
    secret: bool,
}

impl<T> PerNode<T> {
    /// A mapping is by node name; for values that aren't mappings themselves.
    pub(super) fn read<'n>(
        place: &Place<'n>,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Self> {
        if matches!(place.value(), Value::Mapping(_)) {
            Self::read_by_node(place, findings, read)
        } else {
            Self::read_for_every(place, findings, read)
        }
    }

    /// One value for every node.
    pub(super) fn read_for_every<'n>(
        place: &Place<'n>,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Self> {
        Some(Self::Every(place.located(read(place, findings)?)))
    }

    /// A mapping by node name.
    pub(super) fn read_by_node<'n>(
        place: &Place<'n>,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Self> {
        let mapping = Mapping::of_any_keys(place, findings)?;
        if mapping.entries().next().is_none() {
            findings.add(
                &place.origin(),
                "is empty; write a value, or a value for each node",
            );
            return None;
        }
        let mut values = BTreeMap::new();
        let mut complete = true;
        for (node, place) in mapping.entries() {
            match read(place, findings) {
                Some(value) => drop(values.insert(node.to_owned(), place.located(value))),
                None => complete = false,
            }
        }
        let secret = place.is_secret();
        complete.then(|| {
            Self::ByNode(NodeMap {
                origin: place.origin(),
                values,
                secret,
            })
        })
    }

    /// The value of a node.
    pub(super) fn of(&self, node: &str, findings: &mut Findings) -> Option<&Located<T>> {
        let map = match self {
            Self::Every(value) => return Some(value),
            Self::ByNode(map) => map,
        };
        let value = map.values.get(node);
        if value.is_none() {
            let mut message = format!("has no value for node `{node}`");
            if !map.secret {
                let nodes: Vec<&str> = self.nodes().collect();
                message = format!("{message}; it has {}", nodes.join(", "));
            }
            findings.add(&map.origin, message);
        }
        value
    }

    /// The nodes that are named.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        let values = match self {
            Self::Every(_) => None,
            Self::ByNode(map) => Some(&map.values),
        };
        values
            .into_iter()
            .flat_map(|values| values.keys().map(String::as_str))
    }
}
