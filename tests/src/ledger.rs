//! The requirement ledger: what `docs/rfc9568.md` says is proved, against the tests that exist.
//!
//! A requirement is a table row of six cells: id, keyword, requirement, where it is kept, the tests
//! that prove it, and the tests that show a violation refused. In place of tests either of the last
//! two cells may give a reason: that the requirement is not kept, that it does not apply, or that
//! there is nothing to refuse. A permission (MAY) is a row of three cells: id, permission, choice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cases;
use crate::simulation::Invariant;

/// The document, read.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// In the order of the document.
    pub requirements: Vec<Requirement>,
    /// Ids of the permissions.
    pub permissions: Vec<Entry>,
}

/// What a row is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// RFC, section and number: `9568-6.4.3-2`.
    pub id: String,
    /// Line of the document, from 1.
    pub line: usize,
}

/// One requirement and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its id and where it stands.
    pub entry: Entry,
    /// One of [`KEYWORDS`].
    pub keyword: String,
    /// Source files that keep it, relative to the workspace.
    pub kept_in: Vec<String>,
    /// What shows that it is kept.
    pub proved: Evidence,
    /// What shows that a violation is refused, or would go red.
    pub refused: Evidence,
}

/// Why a requirement is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Names of tests, of which there is at least one.
    Tests(Vec<String>),
    /// Why there is no test.
    Reason(Reason),
}

/// Why there is no test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The condition of the requirement never holds for a director.
    NotApplicable,
    /// The requirement is knowingly not kept.
    NotKept,
    /// No input can violate it.
    NothingToRefuse,
}

/// The words that a requirement may carry. A `rule` is stated by an RFC without a keyword.
pub const KEYWORDS: &[&str] = &[
    "MUST",
    "MUST NOT",
    "SHALL",
    "SHALL NOT",
    "REQUIRED",
    "SHOULD",
    "SHOULD NOT",
    "RECOMMENDED",
    "NOT RECOMMENDED",
    "rule",
];

/// Something wrong with the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the document, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.text)
    }
}

impl Ledger {
    /// Reads the tables of a document; other text is skipped.
    ///
    /// # Errors
    /// Every row that is not of a known form.
    pub fn parse(document: &str) -> Result<Self, Vec<Mistake>> {
        let mut ledger = Self::default();
        let mut mistakes = Vec::new();
        for (line, text) in (1..).zip(document.lines()) {
            let Some(cells) = cells(text).filter(|cells| is_id(cells[0])) else {
                continue;
            };
            let entry = Entry {
                id: cells[0].into(),
                line,
            };
            let row = match cells[..] {
                [_, _, choice] if !choice.is_empty() => {
                    ledger.permissions.push(entry);
                    continue;
                }
                [_, keyword, text, kept_in, proved, refused] if !text.is_empty() => {
                    Requirement::parse(entry, keyword, kept_in, proved, refused)
                }
                _ => Err("a row has six cells, a permission three, and none is empty".into()),
            };
            match row {
                Ok(requirement) => ledger.requirements.push(requirement),
                Err(text) => mistakes.push(Mistake {
                    line,
                    text: format!("{}: {text}", cells[0]),
                }),
            }
        }
        if mistakes.is_empty() {
            Ok(ledger)
        } else {
            Err(mistakes)
        }
    }

    /// What the document says that isn't so: a test or a file that doesn't exist, an id given twice.
    pub fn mistakes(&self, tests: &BTreeSet<String>, workspace: &Path) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut seen = BTreeMap::new();
        let requirements = self.requirements.iter().map(|row| &row.entry);
        for Entry { id, line } in requirements.chain(&self.permissions) {
            if let Some(first) = seen.insert(id, line) {
                let text = format!("{id} was given in line {first} already");
                mistakes.push(Mistake { line: *line, text });
            }
        }
        for row in &self.requirements {
            let Entry { id, line } = &row.entry;
            let absent_tests = row
                .tests()
                .filter(|name| !tests.contains(*name))
                .map(|name| format!("{id}: there is no test `{name}`"));
            let absent_files = row
                .kept_in
                .iter()
                .filter(|file| !workspace.join(file).is_file())
                .map(|file| format!("{id}: there is no file `{file}`"));
            mistakes.extend(
                absent_tests
                    .chain(absent_files)
                    .map(|text| Mistake { line: *line, text }),
            );
        }
        mistakes
    }
}

/// How many requirements there are, and what is known of them.
impl fmt::Display for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = &self.requirements;
        let (proving, proved) = count_tests(rows.iter().map(|row| &row.proved));
        let (refusing, refused) = count_tests(rows.iter().map(|row| &row.refused));
        let with = |reason| {
            let told = |row: &&Requirement| row.proved == Evidence::Reason(reason);
            rows.iter().filter(told).count()
        };
        let nothing = rows
            .iter()
            .filter(|row| {
                matches!(row.proved, Evidence::Tests(_))
                    && matches!(row.refused, Evidence::Reason(_))
            })
            .count();
        writeln!(formatter, "{} requirements", rows.len())?;
        writeln!(formatter, "{proved:4} proved, by {proving} tests")?;
        writeln!(
            formatter,
            "{refused:4} with a violation shown refused, by {refusing} tests; \
             {nothing} that nothing could violate"
        )?;
        writeln!(
            formatter,
            "{:4} not applicable, {} not kept, each with its reason",
            with(Reason::NotApplicable),
            with(Reason::NotKept)
        )?;
        write!(
            formatter,
            "{:4} permissions, each with what was chosen",
            self.permissions.len()
        )
    }
}

impl Requirement {
    fn parse(
        entry: Entry,
        keyword: &str,
        kept_in: &str,
        proved: &str,
        refused: &str,
    ) -> Result<Self, String> {
        if !KEYWORDS.contains(&keyword) {
            return Err(format!("`{keyword}` is no keyword"));
        }
        let proved = Evidence::parse(proved)?;
        let refused = Evidence::parse(refused)?;
        let unproved = matches!(
            proved,
            Evidence::Reason(Reason::NotApplicable | Reason::NotKept)
        );
        match (&proved, &refused) {
            (Evidence::Reason(Reason::NothingToRefuse), _) => {
                return Err("say what proves it, or why it isn't kept".into());
            }
            (Evidence::Tests(_), Evidence::Reason(Reason::NotApplicable | Reason::NotKept)) => {
                return Err("what is proved is kept: say what shows a violation refused".into());
            }
            _ => {}
        }
        let kept_in = quoted(kept_in);
        if kept_in.is_empty() && !unproved {
            return Err("say in which file it is kept".into());
        }
        Ok(Self {
            entry,
            keyword: keyword.into(),
            kept_in,
            proved,
            refused,
        })
    }

    fn tests(&self) -> impl Iterator<Item = &String> {
        [&self.proved, &self.refused]
            .into_iter()
            .flat_map(Evidence::tests)
    }
}

impl Evidence {
    fn parse(cell: &str) -> Result<Self, String> {
        const REASONS: &[(&str, Reason)] = &[
            ("Not applicable: ", Reason::NotApplicable),
            ("Not kept: ", Reason::NotKept),
            ("Nothing to refuse: ", Reason::NothingToRefuse),
        ];
        let reason = REASONS
            .iter()
            .find(|(start, _)| cell.strip_prefix(start).is_some_and(|why| !why.is_empty()));
        if let Some((_, reason)) = reason {
            return Ok(Self::Reason(*reason));
        }
        let tests = quoted(cell);
        if tests.is_empty() {
            return Err(format!("`{cell}` names neither a test nor a reason"));
        }
        Ok(Self::Tests(tests))
    }

    fn tests(&self) -> &[String] {
        match self {
            Self::Tests(tests) => tests,
            Self::Reason(_) => &[],
        }
    }
}

/// The name of every test of the workspace, as the ledger writes it: `lvs-proto vrrp::tests::name`
/// for a unit test, `lab theme::name` for a case of the lab, `kernel theme::name` for one of the cases
/// of `lvs-system` on the kernel's own interfaces, `simulation Name` for an invariant.
///
/// # Errors
/// A source that can't be read.
pub fn tests_that_exist() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (package, folder) in PACKAGES {
        let root = workspace().join(folder).join("src/lib.rs");
        let mut tests = Vec::new();
        collect(&root, &mut Vec::new(), &mut tests)?;
        names.extend(tests.into_iter().map(|test| format!("{package} {test}")));
    }
    names.extend(cases::all().map(|case| format!("lab {}", case.name)));
    names.extend(kernel_cases()?);
    names.extend(Invariant::ALL.map(|invariant| format!("simulation {invariant:?}")));
    Ok(names)
}

/// Their tables name them as `theme::name`, in a file of the theme's name.
fn kernel_cases() -> Result<Vec<String>> {
    let folder = workspace().join("system/tests/kernel");
    let mut names = Vec::new();
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry?.path();
        let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let theme = path.file_stem().unwrap_or_default().to_string_lossy();
        let start = format!("\"{theme}::");
        let words = source
            .split_whitespace()
            .map(|word| word.trim_matches(['(', ',']));
        let cases = words.filter(|word| word.starts_with(&start));
        names.extend(cases.map(|word| format!("kernel {}", word.trim_matches('"'))));
    }
    Ok(names)
}

/// The document.
pub fn document() -> PathBuf {
    workspace().join("docs/rfc9568.md")
}

/// The folder of the workspace that these tests were built in.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Packages with a library, and their folders.
const PACKAGES: &[(&str, &str)] = &[
    ("lvs-proto", "proto"),
    ("lvs-system", "system"),
    ("director", "director"),
    ("lvs-tests", "tests"),
];

/// Adds the tests of the module `path`, whose source is `file`, and of the modules below it.
///
/// Sources are formatted, so that a block ends with a brace in the column where it began.
fn collect(file: &Path, path: &mut Vec<String>, tests: &mut Vec<String>) -> Result<()> {
    let source = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut inline: Vec<usize> = Vec::new();
    let mut attributes: Vec<&str> = Vec::new();
    for line in source.lines() {
        let text = line.trim_start();
        let column = line.len() - text.len();
        if text.starts_with("#[") {
            attributes.push(text);
        } else if text == "}" && inline.last() == Some(&column) {
            inline.pop();
            path.pop();
        } else if let Some(module) = item(text, "mod ") {
            path.push(module.into());
            if text.ends_with('{') {
                inline.push(column);
            } else {
                collect(&module_file(file, path, inline.len()), path, tests)?;
                path.pop();
            }
            attributes.clear();
        } else if let Some(function) = item(text, "fn ") {
            // One that is ignored proves nothing, so a requirement that names it goes red.
            let runs = attributes.iter().any(|attribute| is_test(attribute))
                && !attributes.iter().any(|text| text.starts_with("#[ignore"));
            if runs {
                tests.push([path.as_slice(), &[function.into()]].concat().join("::"));
            }
            attributes.clear();
        } else if !text.is_empty() && !text.starts_with("//") {
            attributes.clear();
        }
    }
    Ok(())
}

/// The name of the item that a line declares after its visibility.
fn item<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (before, rest) = text.split_once(keyword)?;
    let before = before.trim_end();
    let declared = before.is_empty() || before == "async" || before.starts_with("pub");
    let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    name.take(usize::from(declared)).next()
}

fn is_test(attribute: &str) -> bool {
    attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test")
}

/// Where the module that `path` ends with is, declared in `file` within `depth` inline modules.
fn module_file(file: &Path, path: &[String], depth: usize) -> PathBuf {
    let owns_its_folder = ["lib.rs", "mod.rs"].iter().any(|name| file.ends_with(name));
    let mut folder = if owns_its_folder {
        file.with_file_name("")
    } else {
        file.with_extension("")
    };
    folder.extend(&path[path.len() - 1 - depth..path.len() - 1]);
    let name = &path[path.len() - 1];
    let flat = folder.join(format!("{name}.rs"));
    if flat.is_file() {
        flat
    } else {
        folder.join(name).join("mod.rs")
    }
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// `9568-6.4.3-2`: four digits, a section, a number.
fn is_id(cell: &str) -> bool {
    let parts: Vec<_> = cell.split('-').collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [rfc, section, number]
        if rfc.len() == 4 && digits(rfc) && section.split('.').all(digits) && digits(number))
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(Into::into).collect()
}

fn count_tests<'a>(evidence: impl Iterator<Item = &'a Evidence>) -> (usize, usize) {
    let named: Vec<_> = evidence
        .map(Evidence::tests)
        .filter(|tests| !tests.is_empty())
        .collect();
    let distinct: BTreeSet<_> = named.iter().copied().flatten().collect();
    (distinct.len(), named.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(mistakes: &[Mistake]) -> String {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    fn ledger(rows: &[&str]) -> Result<Ledger, Vec<Mistake>> {
        Ledger::parse(&rows.join("\n"))
    }

    fn known() -> BTreeSet<String> {
        ["lab vrrp::one".into(), "lvs-proto vrrp::tests::two".into()].into()
    }

    #[test]
    fn the_ledger_of_rfc_9568_holds() {
        let document = std::fs::read_to_string(document()).unwrap();
        let ledger = Ledger::parse(&document).map_err(|mistakes| told(&mistakes));
        let ledger = ledger.unwrap_or_else(|mistakes| panic!("docs/rfc9568.md:\n{mistakes}"));
        assert!(!ledger.requirements.is_empty());
        let mistakes = ledger.mistakes(&tests_that_exist().unwrap(), workspace());
        assert!(mistakes.is_empty(), "docs/rfc9568.md:\n{}", told(&mistakes));
    }

    #[test]
    fn a_complete_ledger_is_counted() {
        let ledger = ledger(&[
            "| id | keyword | requirement | kept in | proved by | refused by |",
            "|---|---|---|---|---|---|",
            "| 9568-7.1-1 | MUST | a | `Cargo.toml` | `lab vrrp::one` | `lvs-proto vrrp::tests::two` |",
            "| 9568-7.1-2 | SHOULD | b | `Cargo.toml` | `lab vrrp::one` | Nothing to refuse: a constant |",
            "| 9568-7.1-3 | MUST NOT | c | | Not kept: Accept_Mode | Not kept: as before |",
            "| 9568-7.1-4 | rule | d | | Not applicable: no router | Not applicable: as before |",
            "| 9568-7.1-5 | may do | we don't |",
        ])
        .unwrap();
        assert_eq!(ledger.mistakes(&known(), workspace()), []);
        assert_eq!(
            ledger.to_string(),
            "4 requirements\n   \
             2 proved, by 1 tests\n   \
             1 with a violation shown refused, by 1 tests; \
             1 that nothing could violate\n   \
             1 not applicable, 1 not kept, each with its reason\n   \
             1 permissions, each with what was chosen"
        );
    }

    #[test]
    fn a_row_without_evidence_is_refused() {
        for (row, word) in [
            (
                "| 9568-7.1-1 | MUST | a | `Cargo.toml` | | `lab vrrp::one` |",
                "neither",
            ),
            (
                "| 9568-7.1-1 | MUST | a | `Cargo.toml` | `lab vrrp::one` | |",
                "neither",
            ),
            (
                "| 9568-7.1-1 | MUST | a | `Cargo.toml` | Not kept: | Not kept: x |",
                "neither",
            ),
            (
                "| 9568-7.1-1 | MUST | a | `Cargo.toml` | Nothing to refuse: x | `lab vrrp::one` |",
                "proves",
            ),
            (
                "| 9568-7.1-1 | MUST | a | `Cargo.toml` | `lab vrrp::one` | Not kept: x |",
                "is kept",
            ),
            (
                "| 9568-7.1-1 | OUGHT | a | `Cargo.toml` | `lab vrrp::one` | `lab vrrp::one` |",
                "keyword",
            ),
            (
                "| 9568-7.1-1 | MUST | a | | `lab vrrp::one` | `lab vrrp::one` |",
                "which file",
            ),
            (
                "| 9568-7.1-1 | MUST | a |  | `lab vrrp::one` |",
                "six cells",
            ),
            ("| 9568-7.1-1 | a | |", "six cells"),
        ] {
            let mistakes = ledger(&[row]).unwrap_err();
            assert!(told(&mistakes).contains(word), "{row}: {mistakes:?}");
        }
    }

    #[test]
    fn absent_tests_absent_files_and_double_ids_are_found() {
        let ledger = ledger(&[
            "| 9568-7.1-1 | MUST | a | `no.rs` | `lab vrrp::three` | `lvs-proto vrrp::tests::two` |",
            "| 9568-7.1-1 | may do | we do |",
        ])
        .unwrap();
        assert_eq!(
            told(&ledger.mistakes(&known(), workspace())),
            "line 2: 9568-7.1-1 was given in line 1 already\n\
             line 1: 9568-7.1-1: there is no test `lab vrrp::three`\n\
             line 1: 9568-7.1-1: there is no file `no.rs`"
        );
    }

    #[test]
    fn tests_are_found_where_they_are() {
        let tests = tests_that_exist().unwrap();
        for name in [
            "lvs-tests ledger::tests::tests_are_found_where_they_are",
            "lvs-proto vrrp::timers::tests::missing",
            "lab vrrp::sigterm_hands_over",
            "kernel vrrp_socket::multicast_and_unicast",
            "kernel vrrp_socket::missing",
            "simulation NotTooEarly",
        ] {
            assert_eq!(tests.contains(name), !name.ends_with("missing"), "{name}");
        }
        assert!(!tests.contains("lvs-tests ledger::tests::told"));
    }
}
