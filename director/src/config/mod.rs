//! The configuration file: what YAML may say, what makes sense, and what follows for one node.
//!
//! `load` reads a file and judges it for every node that it names, so that one file can serve
//! both directors and a mistake in the other's half is found on this one. `File::for_node` then
//! gives the `Configuration` that the rest of the daemon works with: complete, checked, without
//! options that are still to be defaulted. `cli` calls both; everyone may use the `model`'s types.
//!
//! The way of a file: `document` turns text into nodes with positions, `draft` reads nodes into
//! values that may still differ by node, `resolve` picks one node's values and judges what one
//! value means for another. All three report to `Findings`, so that a user sees every mistake at
//! once. What stands under `authentication` is never quoted in a message.

mod address;
pub mod defaults;
mod document;
mod draft;
mod error;
mod model;
mod nearest;
mod per_node;
mod reader;
mod resolve;
mod service;
mod vrrp;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use document::Position;
use draft::Draft;
pub use error::{Errors, Finding};
use error::{Findings, Origin};
pub use lvs_proto::ipvs::{Forwarding, Protocol};
pub use model::{
    AddressScope, Check, Configuration, Control, Dataplane, Effect, Holder, Hook, HookState,
    Instance, Metrics, OnePacketScheduling, Probe, RealServer, Service, Track, TrackedFile,
    TrackedScript, VersionSettings, VirtualAddress,
};
pub use reader::parse_duration;
use resolve::Keys;

/// A configuration file that is valid for every node that it names.
pub struct File {
    path: PathBuf,
    draft: Draft,
    warnings: Vec<Finding>,
}

/// Reads a file of at most [`defaults::MAXIMUM_FILE_SIZE`] and validates it for all nodes. Only the
/// file is looked at, never the machine.
///
/// # Errors
/// All mistakes that were found, by position. A syntax error hides the others.
pub fn load(path: &Path) -> Result<File, Errors> {
    let text = read(path).map_err(|message| Errors::of_file(path, message))?;
    parse(path, &text)
}

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(unreadable)?
        .take(defaults::MAXIMUM_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > defaults::MAXIMUM_FILE_SIZE {
        return Err("is larger than 1 MiB; a configuration has at most that".to_owned());
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Validates a file's contents for all nodes; the path is only for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<File, Errors> {
    let mut findings = Findings::default();
    match document::parse(text) {
        Ok(root) => {
            let draft = Draft::read(&root, &mut findings);
            let configuration_of = |node| {
                let configuration =
                    resolve::configuration(&draft, node, Keys::LeaveAlone, &mut findings);
                (node, configuration)
            };
            let nodes: Vec<_> = draft
                .nodes_to_judge()
                .into_iter()
                .map(configuration_of)
                .collect();
            if findings.is_empty() {
                resolve::judge_across_nodes(&draft, &nodes, &mut findings);
                if let Some(position) = document::repeated_key(text) {
                    let message = "a key is written twice; keep one";
                    findings.add(&Origin::new(position, String::new()), message);
                }
            }
            let warnings = findings.into_result(path)?;
            Ok(File {
                path: path.to_owned(),
                draft,
                warnings,
            })
        }
        Err(error) => {
            findings.add(&Origin::new(error.position, String::new()), error.message);
            Err(findings.into_errors(path))
        }
    }
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
        self.resolve(node, Keys::LeaveAlone)
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
