//! A value that may differ from node to node, so that one file serves both directors.

use std::collections::BTreeMap;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{Mapping, Place};

/// One value for every node, or one for each of the named.
pub(super) enum PerNode<T> {
    Every(Located<T>),
    ByNode(NodeMap<T>),
}

/// A mapping by node name.
pub(super) struct NodeMap<T> {
    origin: Origin,
    /// Nothing where the file leaves it empty.
    values: BTreeMap<String, Option<Located<T>>>,
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

    /// For values that are mappings with `known` keys: a mapping of mappings by other keys is by node
    /// name.
    pub(super) fn read_mapping<'n>(
        place: &Place<'n>,
        known: &[&str],
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Self> {
        let is_mapping = |value: &Value<'_>| matches!(value, Value::Mapping(_));
        let by_node = matches!(place.value(), Value::Mapping(entries)
        if entries.iter().any(|(_, node)| is_mapping(&node.value))
        && entries.iter().all(|(key, node)| {
            (is_mapping(&node.value) || matches!(node.value, Value::Empty))
                && !matches!(&key.value, Value::Text(key) if known.contains(&&**key))
        }));
        if by_node {
            Self::read_by_node(place, findings, read)
        } else {
            Self::read_for_every(place, findings, read)
        }
    }

    fn read_for_every<'n>(
        place: &Place<'n>,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Self> {
        Some(Self::Every(place.located(read(place, findings)?)))
    }

    fn read_by_node<'n>(
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
            let value = match place.value() {
                Value::Empty => None,
                _ => read(place, findings).map(|value| place.located(value)),
            };
            complete &= value.is_some() || matches!(place.value(), Value::Empty);
            values.insert(node.to_owned(), value);
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

    /// The value of a node, of a key that must have one.
    pub(super) fn required(&self, node: &str, findings: &mut Findings) -> Option<&Located<T>> {
        let value = self.optional(node, findings)?;
        if value.is_none()
            && let Self::ByNode(map) = self
        {
            findings.add(&map.origin, format!("is empty for node `{node}`"));
        }
        value
    }

    /// The value of a node: `Some(None)` where the file leaves it empty, as if the key weren't
    /// written for that node; `None` where the map lacks the node.
    pub(super) fn optional(
        &self,
        node: &str,
        findings: &mut Findings,
    ) -> Option<Option<&Located<T>>> {
        let map = match self {
            Self::Every(value) => return Some(Some(value)),
            Self::ByNode(map) => map,
        };
        let value = map.values.get(node);
        if value.is_none() {
            let mut message = format!("has no value for node `{node}`");
            if !map.secret {
                let nodes: Vec<&str> = map.values.keys().map(String::as_str).collect();
                message = format!("{message}; it has {}", nodes.join(", "));
            }
            findings.add(&map.origin, message);
        }
        Some(value?.as_ref())
    }
}

/// What may name nodes.
pub(super) trait Nodes {
    /// The nodes that are named.
    fn nodes(&self) -> Vec<&str>;
}

impl<T> Nodes for PerNode<T> {
    fn nodes(&self) -> Vec<&str> {
        match self {
            Self::Every(_) => Vec::new(),
            Self::ByNode(map) => map.values.keys().map(String::as_str).collect(),
        }
    }
}

impl<T> Nodes for Option<PerNode<T>> {
    fn nodes(&self) -> Vec<&str> {
        self.as_ref().map(Nodes::nodes).unwrap_or_default()
    }
}
