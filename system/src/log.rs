//! The log of both programs: lines on standard error.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Time, level, what happened and its particulars.
    #[default]
    Text,
    /// An object of JSON on each line: `timestamp`, `level`, `message` and the particulars by name.
    Json,
}

impl Format {
    /// The words for them, as on the command line.
    pub const WORDS: [&str; 2] = ["text", "json"];
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::WORDS[*self as usize])
    }
}

/// It's no word for a format.
#[derive(Debug, thiserror::Error)]
#[error("must be `text` or `json`")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// Has all that this process says written through `writer`, which leads to standard error. Once a process.
pub fn start(
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    format: Format,
) {
    let log = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(LevelFilter::INFO);
    match format {
        Format::Text => log.init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read_as_it_is_written() {
        for (format, word) in [Format::Text, Format::Json].into_iter().zip(Format::WORDS) {
            assert_eq!(format.to_string(), word);
            assert_eq!(word.parse::<Format>().unwrap(), format);
        }
        assert!("yaml".parse::<Format>().is_err());
    }
}
