//! The JSON Schemas of `deploy/schema`, which editors use, held against what the programs read.
//!
//! The programs say themselves which keys they know, to whoever writes another one. So every mapping of
//! every document here gets a key that nobody knows, and what the program answers is compared with the
//! schema; the documents together have every key of the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Map, Value};

/// Every key of a director's file, in as many files as that takes.
const DIRECTOR: &[&str] = &[
    include_str!("director-vrrp.yaml"),
    include_str!("director-version-2.yaml"),
    include_str!("director-services.yaml"),
    include_str!("director-checks.yaml"),
];
/// The same of rs-agent.
const AGENT: &[&str] = &[
    include_str!("agent.yaml"),
    include_str!("agent-anycast.yaml"),
];

/// No program knows it, and it resembles none that one knows.
const STRANGER: &str = "zzzzzzzzzz";

/// What a program reads, and what editors are told of it.
struct Subject {
    schema: Value,
    validator: Validator,
    parse: fn(&str) -> Result<(), String>,
}

impl Subject {
    fn director() -> Self {
        Self::new("director.json", |text| {
            let parsed = director::config::parse(Path::new("director.yaml"), text);
            parsed.map(drop).map_err(|errors| errors.to_string())
        })
    }

    fn agent() -> Self {
        Self::new("rs-agent.json", |text| {
            let parsed = realserver_agent::config::parse(Path::new("rs-agent.yaml"), text);
            parsed.map(drop).map_err(|errors| errors.to_string())
        })
    }

    fn new(file: &str, parse: fn(&str) -> Result<(), String>) -> Self {
        let path = workspace().join("deploy/schema").join(file);
        let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        Self {
            schema,
            validator,
            parse,
        }
    }

    /// Both take the document.
    fn takes(&self, text: &str) {
        (self.parse)(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let value = value_of(text);
        let errors: Vec<String> = self
            .validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{text}");
    }

    /// Each mapping of the document with the part of the schema that is about it.
    fn mappings(&self, document: &Value) -> Vec<(Vec<Step>, String)> {
        let mut found = Vec::new();
        self.walk("", document, &mut Vec::new(), &mut found);
        found
    }

    fn walk(
        &self,
        pointer: &str,
        value: &Value,
        path: &mut Vec<Step>,
        found: &mut Vec<(Vec<Step>, String)>,
    ) {
        for pointer in self.branches(pointer) {
            let schema = self.at(&pointer);
            match value {
                Value::Array(items) if schema.contains_key("items") => {
                    for (index, item) in items.iter().enumerate() {
                        path.push(Step::Item(index));
                        self.walk(&format!("{pointer}/items"), item, path, found);
                        path.pop();
                    }
                }
                Value::Object(entries) => {
                    let known = schema.get("properties").and_then(Value::as_object);
                    if let Some(known) = known.filter(|known| fits(entries, known)) {
                        found.push((path.clone(), pointer.clone()));
                        for (key, value) in entries {
                            path.push(Step::Key(key.clone()));
                            let below = format!("{pointer}/properties/{key}");
                            assert!(known.contains_key(key));
                            self.walk(&below, value, path, found);
                            path.pop();
                        }
                    } else if schema
                        .get("additionalProperties")
                        .is_some_and(Value::is_object)
                        && self.is_by_node(&pointer, entries)
                    {
                        for (node, value) in entries {
                            path.push(Step::Key(node.clone()));
                            let below = format!("{pointer}/additionalProperties");
                            self.walk(&below, value, path, found);
                            path.pop();
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether none of the ways to write it without nodes fits.
    fn is_by_node(&self, pointer: &str, entries: &Map<String, Value>) -> bool {
        let plain = self.branches(&format!("{pointer}/additionalProperties"));
        plain.iter().all(|branch| {
            let known = self.at(branch).get("properties").and_then(Value::as_object);
            known.is_none_or(|known| !fits(entries, known))
        })
    }

    /// The parts that say something themselves, behind references and choices.
    fn branches(&self, pointer: &str) -> Vec<String> {
        let schema = self.at(pointer);
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.branches(reference.trim_start_matches('#'));
        }
        let mut branches = vec![pointer.to_owned()];
        for choice in ["anyOf", "allOf"] {
            let some = schema.get(choice).and_then(Value::as_array);
            for index in 0..some.map_or(0, Vec::len) {
                branches.extend(self.branches(&format!("{pointer}/{choice}/{index}")));
            }
        }
        branches
    }

    fn at(&self, pointer: &str) -> &Map<String, Value> {
        let part = self.schema.pointer(pointer);
        part.and_then(Value::as_object)
            .unwrap_or_else(|| panic!("nothing at {pointer}"))
    }

    /// Each mapping of the schema, and its keys.
    fn known(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut known = BTreeMap::new();
        collect(&self.schema, "", &mut known);
        known
    }

    /// What the program says that it knows where a stranger stands.
    fn knows(&self, document: &str) -> BTreeSet<String> {
        let errors = (self.parse)(document).unwrap_err();
        let mut said = errors
            .lines()
            .filter_map(|line| line.split_once(": unknown key; "));
        let Some((_, said)) = said.next() else {
            panic!("no unknown key in: {errors}\n{document}");
        };
        let listed = said.strip_prefix("known here: ");
        assert!(
            listed.is_some() || said == "there is nothing to be set",
            "{said}"
        );
        let words = listed.unwrap_or_default().split(", ");
        words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Holds the schema against the program with these documents, which have to have every key.
    fn agrees(&self, documents: &[&str]) {
        let mut unseen: BTreeMap<String, BTreeSet<String>> = self.known();
        for text in documents {
            self.takes(text);
            let document = value_of(text);
            for (path, pointer) in self.mappings(&document) {
                let mut with_stranger = document.clone();
                let mapping = at(&mut with_stranger, &path);
                for key in mapping.keys() {
                    unseen.get_mut(&pointer).unwrap().remove(key);
                }
                mapping.insert(STRANGER.to_owned(), Value::from(1));
                assert!(
                    !self.validator.is_valid(&with_stranger),
                    "the schema takes a stranger at {path:?}"
                );
                let known: BTreeSet<String> = self.known().remove(&pointer).unwrap();
                assert_eq!(
                    self.knows(&yaml(&with_stranger)),
                    known,
                    "{path:?}: {pointer}"
                );
            }
        }
        // A key that is known to be refused stands nowhere.
        for (pointer, keys) in &mut unseen {
            keys.retain(|key| self.at(pointer)["properties"][key] != Value::Bool(false));
        }
        unseen.retain(|_, keys| !keys.is_empty());
        assert!(unseen.is_empty(), "no document has: {unseen:#?}");
    }
}

/// To a value within a document.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Item(usize),
}

fn at<'v>(document: &'v mut Value, path: &[Step]) -> &'v mut Map<String, Value> {
    let value = path.iter().fold(document, |value, step| match step {
        Step::Key(key) => &mut value[key],
        Step::Item(index) => &mut value[index],
    });
    value.as_object_mut().unwrap()
}

fn fits(entries: &Map<String, Value>, known: &Map<String, Value>) -> bool {
    entries.keys().all(|key| known.contains_key(key))
}

fn collect(schema: &Value, pointer: &str, known: &mut BTreeMap<String, BTreeSet<String>>) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(properties)) = entries.get("properties")
                && entries.get("type").is_some_and(|kind| kind == "object")
            {
                known.insert(pointer.to_owned(), properties.keys().cloned().collect());
            }
            for (key, value) in entries {
                collect(value, &format!("{pointer}/{key}"), known);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, &format!("{pointer}/{index}"), known);
            }
        }
        _ => {}
    }
}

fn value_of(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// JSON is YAML, but for keys that are numbers.
fn yaml(document: &Value) -> String {
    let text = document.to_string();
    let numbers = regex_lite::Regex::new(r#""(\d+)":"#).unwrap();
    numbers.replace_all(&text, "$1: ").into_owned()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = workspace().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .collect()
}

#[test]
fn a_director_knows_the_keys_of_its_schema_and_no_others() {
    Subject::director().agrees(DIRECTOR);
}

#[test]
fn an_agent_knows_the_keys_of_its_schema_and_no_others() {
    Subject::agent().agrees(AGENT);
}

#[test]
fn every_example_is_as_its_schema_says() {
    let (director, agent) = (Subject::director(), Subject::agent());
    let mut seen = 0;
    for folder in [
        "deploy",
        "deploy/examples",
        "deploy/anycast",
        "deploy/anycast/container",
    ] {
        for path in files(folder, "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            match path.file_name().and_then(|name| name.to_str()).unwrap() {
                "rs-agent.yaml" => agent.takes(&text),
                "compose.yaml" => continue,
                _ => director.takes(&text),
            }
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
}

/// What a program takes, its schema takes; parts of files are neither's matter.
#[test]
fn every_file_in_the_documentation_is_as_its_schema_says() {
    let (director, agent) = (Subject::director(), Subject::agent());
    let mut seen = 0;
    let mut pages = files("docs", "md");
    pages.push(workspace().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            for subject in [&director, &agent] {
                if (subject.parse)(block).is_ok() {
                    subject.takes(block);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn a_misspelt_key_is_refused() {
    let example = fs::read_to_string(workspace().join("deploy/director.yaml")).unwrap();
    let director = Subject::director();
    for key in [
        "advert_interval",
        "real_servers",
        "scheduler",
        "listen",
        "virtual_router_id",
    ] {
        let misspelt = key.replacen('e', "a", 1).replacen("listan", "lisen", 1);
        let wrong = example.replace(&format!("{key}:"), &format!("{misspelt}:"));
        if wrong != example {
            assert!(
                !director.validator.is_valid(&value_of(&wrong)),
                "{misspelt}"
            );
        }
    }
    for wrong in [
        "vrrp: []",
        "services: []\ndataplan: none",
        "vrrp: [{ name: a, interface: e, virtual_router_id: 256, priority: 1, addresses: [192.0.2.1/24] }]",
        "vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1] }]",
        "vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1/24], announce: { brust: 3 } }]",
        "vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1/24], advert_interval: 100 }]",
    ] {
        assert!((director.parse)(wrong).is_err(), "{wrong}");
        assert!(!director.validator.is_valid(&value_of(wrong)), "{wrong}");
    }
}
