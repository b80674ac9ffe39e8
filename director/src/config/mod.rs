//! The configuration file: what YAML may say, what makes sense, and what follows for one node.
//!
//! `load` reads a file and judges it for every node that it names, so that one file can serve
//! both directors and a mistake in the other's half is found on this one. `File::for_node` then
//! gives the `Configuration` that the rest of the daemon works with: complete, checked, without
//! options that are still to be defaulted. `cli` calls both; everyone may use the `model`'s types.
//!
//! The way of a file: `lvs_configuration` turns text into nodes with positions, `draft` reads nodes into
//! values that may still differ by node, `resolve` picks one node's values and judges what one
//! value means for another. All three report to `Findings`, so that a user sees every mistake at
//! once. What stands under `authentication` is never quoted in a message.

pub mod defaults;
mod draft;
mod hash;
mod ipvs;
mod material;
mod model;
mod per_node;
mod resolve;
mod service;
mod vip;
mod vrrp;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use draft::Draft;
pub use hash::Hashes;
use lvs_configuration::error::Findings;
use lvs_configuration::programs;
pub use lvs_configuration::reader::parse_duration;
pub use lvs_configuration::{Errors, Finding, Position, read};
pub use lvs_proto::ipvs::{Forwarding, Protocol};
pub use material::Material;
pub use model::{
    AddressScope, Check, CheckKind, Configuration, Control, Dataplane, DnsCheck, DnssecWatch,
    Effect, ExecCheck, Holder, Hook, HookState, HttpCheck, Instance, Ipvs, Metrics,
    OnePacketScheduling, PersistenceSettings, PoolSettings, Probing, Program, RealServer,
    RealServerKey, Service, Synchronization, Track, TrackedFile, TrackedScript, UdpCheck,
    VersionSettings, VirtualAddress, VirtualService, Watch, ZoneWatch,
};
use resolve::{Keys, MAXIMUM_KEY_FILE_SIZE};

/// A configuration file that is valid for every node that it names.
pub struct File {
    path: PathBuf,
    draft: Draft,
    /// By node; by the empty name where the file is the same for every node.
    outlines: BTreeMap<String, Configuration>,
    warnings: Vec<Finding>,
}

/// Reads a file of at most [`lvs_configuration::MAXIMUM_FILE_SIZE`] and validates it for all nodes.
/// Only the file is looked at, never the machine.
///
/// # Errors
/// All mistakes that were found, by position. A syntax error hides the others.
pub fn load(path: &Path) -> Result<File, Errors> {
    parse(path, &read(path)?)
}

/// Validates a file's contents for all nodes; the path is only for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<File, Errors> {
    let ((draft, outlines), warnings) = lvs_configuration::parse(path, text, |root, findings| {
        let draft = Draft::read(root, findings);
        let configuration_of = |node| {
            let configuration = resolve::configuration(&draft, node, Keys::LeaveAlone, findings);
            (node, configuration)
        };
        let nodes: Vec<_> = draft
            .nodes_to_judge()
            .into_iter()
            .map(configuration_of)
            .collect();
        if findings.is_empty() {
            resolve::judge_across_nodes(&draft, &nodes, findings);
        }
        let outlines = nodes
            .into_iter()
            .map(|(node, outline)| (node.to_owned(), outline))
            .collect();
        (draft, outlines)
    })?;
    Ok(File {
        path: path.to_owned(),
        draft,
        outlines,
        warnings,
    })
}

impl File {
    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The nodes that maps by node name name; none when the file is the same for every node.
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.draft.nodes()
    }

    /// What is legal and still hardly meant, by position.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// The key files that the file names for a node.
    pub fn key_files(&self, node: &str) -> Vec<PathBuf> {
        self.draft.key_files(node)
    }

    /// The configuration of the named node, which is this machine: key files are read.
    ///
    /// # Errors
    /// Maps that don't have the node, with the nodes they have; key files that can't be read or hold
    /// no key.
    pub fn for_node(&self, node: &str) -> Result<Configuration, Errors> {
        self.resolve(node, Keys::Read)
    }

    /// As [`Self::for_node`] without a look at the machine: zeros stand in for keys in files.
    ///
    /// # Errors
    /// Maps that don't have the node, with the nodes they have.
    pub fn outline(&self, node: &str) -> Result<Configuration, Errors> {
        let judged = self.outlines.get(node).or_else(|| self.outlines.get(""));
        match judged {
            Some(outline) => Ok(outline.clone()),
            None => self.resolve(node, Keys::LeaveAlone),
        }
    }

    /// Looks whether the programs that checks run are on this machine.
    ///
    /// # Errors
    /// Those that are missing or can't be run, by position. Those that can't be seen are none.
    pub fn find_programs(&self) -> Result<(), Errors> {
        let mut findings = Findings::default();
        for program in self.draft.programs() {
            if let Some(wrong) = programs::why_not(Path::new(&program.value)) {
                findings.add(&program.origin, wrong);
            }
        }
        findings.into_result(&self.path).map(|_| ())
    }

    fn resolve(&self, node: &str, keys: Keys) -> Result<Configuration, Errors> {
        let mut findings = Findings::default();
        let configuration = resolve::configuration(&self.draft, node, keys, &mut findings);
        findings.into_result(&self.path)?;
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests;
