//! The configuration file.
//!
//! ```yaml
//! vips: [192.168.56.185]
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml::{Location, Spanned};

use crate::vip::{self, InvalidVip};

/// Read when neither `--vip` nor `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/rs-agent.yaml";

/// What a valid file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// At least one, none twice, in the file's order.
    pub vips: Vec<Ipv4Addr>,
}

/// Why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
    /// The file says something that it can't.
    #[error("{}:{line}:{column}: {problem}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// From 1, in characters.
        column: u64,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What is wrong at one place of a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not YAML, or not of this file's form; the parser's words.
    #[error("{0}")]
    Form(String),
    /// `vips`, or the whole file, is empty.
    #[error("vips names no VIP; write at least one, as in `vips: [192.168.56.185]`")]
    NoVip,
    /// An entry of `vips` is none.
    #[error(transparent)]
    InvalidVip(InvalidVip),
    /// An entry of `vips` stands there before.
    #[error("{0} is listed twice; remove one")]
    Duplicate(Ipv4Addr),
}

/// Reads and checks a file of at most [`MAXIMUM_SIZE`] bytes.
pub fn load(path: &Path) -> Result<Configuration, Error> {
    let unreadable = |reason| Error::Unreadable {
        path: path.into(),
        reason,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAXIMUM_SIZE + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > MAXIMUM_SIZE {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    parse(path, &text)
}

/// Checks a file's contents; the path is only for messages.
pub fn parse(path: &Path, text: &str) -> Result<Configuration, Error> {
    read(text).map_err(|(location, problem)| Error::Invalid {
        path: path.into(),
        line: location.line().max(1),
        column: location.column().max(1),
        problem,
    })
}

/// Bytes in a file, so that a wrong path can't fill the memory.
pub const MAXIMUM_SIZE: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    vips: Spanned<Vec<Spanned<String>>>,
}

fn read(text: &str) -> Result<Configuration, (Location, Problem)> {
    if text.trim().is_empty() {
        return Err((Location::UNKNOWN, Problem::NoVip));
    }
    let options = serde_yaml::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    let document: Document = serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        (location, Problem::Form(words(&error)))
    })?;
    let mut vips = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in &document.vips.value {
        let vip = vip::parse(&entry.value)
            .map_err(|error| (entry.referenced, Problem::InvalidVip(error)))?;
        if !seen.insert(vip) {
            return Err((entry.referenced, Problem::Duplicate(vip)));
        }
        vips.push(vip);
    }
    if vips.is_empty() {
        return Err((document.vips.referenced, Problem::NoVip));
    }
    Ok(Configuration { vips })
}

/// The parser's message without the place, which is printed before it.
fn words(error: &serde_yaml::Error) -> String {
    let text = error.without_snippet().to_string();
    match text.rsplit_once(" at line ") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `LINE:COLUMN: PROBLEM`, as [`load`] prints it behind the file's name.
    fn problem(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rs-agent.yaml");
        std::fs::write(&path, text).unwrap();
        let message = load(&path).unwrap_err().to_string();
        let prefix = format!("{}:", path.display());
        message.strip_prefix(&prefix).unwrap().to_owned()
    }

    #[test]
    fn one_or_more_vips_in_order() {
        for text in [
            "vips: [192.168.56.186, 192.168.56.185]",
            "# comment\nvips:\n  - 192.168.56.186\n  - \"192.168.56.185\"\n",
        ] {
            let vips = read(text).unwrap().vips;
            let last: Vec<u8> = vips.iter().map(|vip| vip.octets()[3]).collect();
            assert_eq!(last, [186, 185]);
        }
    }

    #[test]
    fn problems_say_where_and_what() {
        assert_eq!(
            problem("vips: [192.168.56.185]\nvip: 192.168.56.186\n"),
            "2:1: unknown field `vip`, expected one of vips"
        );
        assert_eq!(
            problem("vips:\n  - 192.168.56.185\n  - 192.168.56.999\n"),
            "3:5: \"192.168.56.999\" is not an IPv4 address; a VIP is written like 192.168.56.185, without a prefix length"
        );
        assert_eq!(
            problem("vips: [10.0.0.1, 10.0.0.2, 10.0.0.1]"),
            "1:28: 10.0.0.1 is listed twice; remove one"
        );
        assert!(problem("vips: []").starts_with("1:7: vips names no VIP"));
        assert!(problem("vips: 10.0.0.1").starts_with("1:7: "));
        assert!(problem("vips: [10.0.0.1]\nvips: [10.0.0.2]").starts_with("2:1: "));
        assert!(problem("vips: [10.0.0.1").starts_with("1:"));
        assert!(problem("").starts_with("1:1: vips names no VIP"));
        assert!(problem("{}").contains("vips"));
    }

    #[test]
    fn unreadable_files_are_named() {
        let error = load(Path::new("/nonexistent/rs-agent.yaml")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read /nonexistent/rs-agent.yaml: ")
        );
    }
}
