//! What `--help` shows after the options: headings with a colon, and below each lines that begin with
//! two spaces or more.

use clap::Command;

/// A heading and what stands below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Without its colon.
    pub heading: String,
    /// An entry begins with two spaces; what belongs to it has more.
    pub entries: Vec<Vec<String>>,
}

/// A command line and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// As it is typed.
    pub command: String,
    /// Nothing where it speaks for itself.
    pub remark: String,
}

impl Section {
    /// Those of a command.
    #[must_use]
    pub fn all_of(command: &Command) -> Vec<Self> {
        let text = command.get_after_help().map(ToString::to_string);
        Self::read(&text.unwrap_or_default())
    }

    fn read(text: &str) -> Vec<Self> {
        let mut sections: Vec<Self> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim().to_owned();
            match (indent, sections.last_mut()) {
                (0, _) | (_, None) => sections.push(Self {
                    heading: line.trim_end_matches(':').to_owned(),
                    entries: Vec::new(),
                }),
                (2, Some(section)) => section.entries.push(vec![line]),
                (_, Some(section)) => match section.entries.last_mut() {
                    Some(entry) => entry.push(line),
                    None => section.entries.push(vec![line]),
                },
            }
        }
        sections
    }

    /// The examples, if these are.
    #[must_use]
    pub fn examples(&self) -> Option<Vec<Example>> {
        let example = |entry: &Vec<String>| {
            let (command, remark) = entry.split_first()?;
            Some(Example {
                command: command.clone(),
                remark: remark.join(" "),
            })
        };
        (self.heading == "Examples").then(|| self.entries.iter().filter_map(example).collect())
    }

    /// Each exit status and what it means, if these are.
    #[must_use]
    pub fn exit_statuses(&self) -> Option<Vec<(u8, String)>> {
        if self.heading != "Exit status" {
            return None;
        }
        let statuses = self.terms().into_iter();
        let read = statuses.filter_map(|(code, meaning)| Some((code.parse().ok()?, meaning)));
        Some(read.collect())
    }

    /// Each entry as a term and what is said of it: two spaces are between them.
    #[must_use]
    pub fn terms(&self) -> Vec<(String, String)> {
        let term = |entry: &Vec<String>| {
            let whole = entry.join(" ");
            match whole.split_once("  ") {
                Some((term, text)) => (term.to_owned(), text.trim().to_owned()),
                None => (whole, String::new()),
            }
        };
        self.entries.iter().map(term).collect()
    }
}

impl Example {
    /// As a shell splits it; quotes are single.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (number, part) in self.command.split('\'').enumerate() {
            if number % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Examples:
  director drain '*/192.0.2.11' --reason 'new disk'
      In all services,
      until it is over.
  director drain a/b

Exit status:
  0   it is so
  1   it is not,
      alas
  64  wrong command line";

    #[test]
    fn sections_are_read_as_they_look() {
        let sections = Section::read(TEXT);
        let examples = sections[0].examples().unwrap();
        assert_eq!(examples.len(), 2);
        assert_eq!(examples[0].remark, "In all services, until it is over.");
        let words = ["director", "drain", "*/192.0.2.11", "--reason", "new disk"];
        assert_eq!(examples[0].words(), words);
        let statuses = sections[1].exit_statuses().unwrap();
        let expected = [
            (0, "it is so"),
            (1, "it is not, alas"),
            (64, "wrong command line"),
        ];
        assert_eq!(
            statuses,
            expected.map(|(code, text)| (code, text.to_owned()))
        );
        assert_eq!(sections[0].exit_statuses(), None);
        assert_eq!(sections[1].examples(), None);
    }
}
