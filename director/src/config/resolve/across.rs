//! What the nodes' values mean for each other.

use std::collections::BTreeMap;

use lvs_configuration::error::{Findings, Origin};
use lvs_proto::vrrp::Priority;

use crate::config::draft::Draft;
use crate::config::model::{Configuration, Instance};

/// Judges the configurations of all nodes that a file names; they have no mistakes of their own.
pub(in crate::config) fn judge(
    draft: &Draft,
    nodes: &[(&str, Configuration)],
    findings: &mut Findings,
) {
    let several = nodes.len() > 1;
    for (index, instance) in draft.instances.iter().enumerate().filter(|_| several) {
        let mut owner = None;
        let mut places = Vec::new();
        for (node, configuration) in nodes {
            let Some(written) = instance.on(node, findings) else {
                return;
            };
            let priority = written.priority;
            if priority.value == Priority::OWNER
                && let Some(first) = owner.replace(node)
            {
                let message = format!(
                    "255 is the owner's of the addresses, and `{first}` has it too; write a number \
                     from 1 to 254 for all but one node"
                );
                findings.add(&priority.origin, message);
            }
            let track = written.track.map(|track| &track.origin);
            places.extend(configuration.instances.get(index).zip(Some((node, track))));
        }
        judge_weights(&places, findings);
    }
    judge_groups(draft, nodes, findings);
}

type OnNode<'i> = (&'i Instance, (&'i &'i str, Option<&'i Origin>));

/// Weights that leave the best node best, however much of what it tracks fails.
fn judge_weights(nodes: &[OnNode<'_>], findings: &mut Findings) {
    for (instance, (node, track)) in nodes {
        let Some(track) = track.filter(|_| instance.track.files.is_empty()) else {
            continue;
        };
        let possible = instance.priorities();
        let others = || nodes.iter().filter(|(_, (other, _))| other != node);
        let files = others().any(|(other, _)| !other.track.files.is_empty());
        let best_other = others().map(|(other, _)| *other.priorities().end()).max();
        let Some(best_other) = best_other.filter(|_| !files) else {
            continue;
        };
        if possible.start() < possible.end() && *possible.start() > best_other {
            let message = format!(
                "on `{node}` the weights take the priority from {} to no less than {}, and no other \
                 node has more than {best_other}: whatever fails, it stays Active; write larger \
                 weights, or leave them out where failing means fault",
                possible.end(),
                possible.start()
            );
            findings.warn(track, message);
        }
    }
}

/// Members of a group that prefer different nodes pull it to and fro.
fn judge_groups(draft: &Draft, nodes: &[(&str, Configuration)], findings: &mut Findings) {
    let mut first_of = BTreeMap::<&str, (&str, &str)>::new();
    let instances = nodes.first().map_or(0, |(_, first)| first.instances.len());
    for index in 0..instances {
        let members: Vec<(&str, &Instance)> = nodes
            .iter()
            .filter_map(|(node, configuration)| Some((*node, configuration.instances.get(index)?)))
            .collect();
        let Some((node, member)) = members.iter().max_by_key(|(_, member)| member.priority) else {
            continue;
        };
        let Some(group) = &member.group else {
            continue;
        };
        let (preferred, by) = *first_of.entry(group).or_insert((node, &member.name));
        let equal = |wanted: &str| {
            members
                .iter()
                .any(|(node, other)| *node == wanted && other.priority == member.priority)
        };
        if !equal(preferred)
            && let Some(origin) = draft.instances[index]
                .on(node, findings)
                .and_then(|written| written.group)
                .map(|group| group.origin.clone())
        {
            let message = format!(
                "prefers `{node}`, but `{by}` of the same group prefers `{preferred}`; give one node \
                 the highest priority in both"
            );
            findings.warn(&origin, message);
        }
    }
}
