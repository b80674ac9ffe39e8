//! Reads configuration files in YAML.
//!
//! A file becomes a tree of nodes that know where they stand ([`document`]). A program's own readers
//! turn the tree into its values with [`reader`], and report to [`error::Findings`] what they don't
//! like, so that a user sees every mistake at once: each with line, column, the keys that lead there,
//! what is wrong and what would be right. What stands at a [`reader::Place`] that is secret is never
//! quoted in a message.
//!
//! This crate knows what a time, a name or an address looks like, and nothing of what they are for.

pub mod address;
pub mod document;
pub mod error;
mod nearest;
pub mod programs;
pub mod reader;

use std::fs;
use std::io::Read;
use std::path::Path;

use document::Node;
pub use document::Position;
pub use error::{Errors, Finding};
use error::{Findings, KeyPath, Origin};

/// Bytes of a configuration file, at most: beyond any real one, and small enough to parse at once.
pub const MAXIMUM_FILE_SIZE: u64 = 1024 * 1024;

/// Reads a file's contents, of at most [`MAXIMUM_FILE_SIZE`].
///
/// # Errors
/// When it can't be read, is too large or isn't UTF-8.
pub fn read(path: &Path) -> Result<String, Errors> {
    contents(path).map_err(|message| Errors::of_file(path, message))
}

fn contents(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(unreadable)?
        .take(MAXIMUM_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAXIMUM_FILE_SIZE {
        return Err("is larger than 1 MiB; a configuration has at most that".to_owned());
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Makes a tree of a file's contents and gives it to `interpret`, which reports what it doesn't like.
/// The path is only for messages. Gives what was made of it, with the warnings.
///
/// # Errors
/// All mistakes that were found, by position. A syntax error hides the others.
pub fn parse<T>(
    path: &Path,
    text: &str,
    interpret: impl FnOnce(&Node<'_>, &mut Findings) -> T,
) -> Result<(T, Vec<Finding>), Errors> {
    let mut findings = Findings::default();
    let root = match document::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let origin = Origin::new(error.position, KeyPath::default());
            findings.add(&origin, error.message);
            return Err(findings.into_errors(path));
        }
    };
    let interpreted = interpret(&root, &mut findings);
    if findings.is_empty()
        && let Some(position) = document::repeated_number(&root, text)
    {
        let message = "a key is written twice; keep one";
        findings.add(&Origin::new(position, KeyPath::default()), message);
    }
    let warnings = findings.into_result(path)?;
    Ok((interpreted, warnings))
}
