//! Man pages and completions of both programs, made from what their command lines say of themselves.
//!
//! `manual DIRECTORY` writes them (`make man`). Nothing of this is in the programs themselves.

mod page;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod schema;
mod section;

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

pub use page::page;
pub use section::{Example, Section};

/// The section of the manual for programs that administer a machine.
const MANUAL_SECTION: &str = "8";

/// Both programs, each with all of its commands; hidden ones are left out.
#[must_use]
pub fn programs() -> [Command; 2] {
    [director::cli::command(), realserver_agent::cli::command()].map(|program| {
        let mut program = shown(&program);
        program.build();
        program
    })
}

/// The program and its commands, those in front that others are part of.
#[must_use]
pub fn commands(program: &Command) -> Vec<&Command> {
    let subcommands = program.get_subcommands();
    // clap adds `help`, which has no page of its own.
    let ours = subcommands.filter(|command| command.get_name() != "help");
    std::iter::once(program).chain(ours).collect()
}

/// How a command is called, such as `director drain`.
#[must_use]
pub fn called(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

/// Writes `man8/*.8`, and the completions as each shell looks for them: `bash/NAME`, `zsh/_NAME`,
/// `fish/NAME.fish`.
///
/// # Errors
/// When a file can't be written.
pub fn write(directory: &Path) -> io::Result<()> {
    let pages = directory.join("man8");
    fs::create_dir_all(&pages)?;
    for mut program in programs() {
        for command in commands(&program) {
            let name = called(command).replace(' ', "-");
            let file = pages.join(format!("{name}.{MANUAL_SECTION}"));
            fs::write(file, page(command, &program))?;
        }
        let name = program.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, name.clone()),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let folder = directory.join(shell.to_string());
            fs::create_dir_all(&folder)?;
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut program, &name, &mut text);
            fs::write(folder.join(file), text)?;
        }
    }
    Ok(())
}

/// Without the hidden commands, which completions would offer.
fn shown(program: &Command) -> Command {
    let mut shown = Command::new(program.get_name().to_owned())
        .version(program.get_version().unwrap_or_default().to_owned())
        .about(program.get_about().cloned().unwrap_or_default())
        .after_help(program.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .args(program.get_arguments());
    for command in program.get_subcommands().filter(|it| !it.is_hide_set()) {
        shown = shown.subcommand(command);
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Commands that print no result, and why.
    const WITHOUT_JSON: &[(&str, &str)] = &[
        ("director", "only has commands"),
        ("director run", "prints a log"),
        ("director top", "is a screen for people"),
        ("rs-agent", "only has commands"),
        ("rs-agent run", "prints a log"),
    ];

    fn for_each(mut look: impl FnMut(&Command)) {
        for program in programs() {
            commands(&program).into_iter().for_each(&mut look);
        }
    }

    #[test]
    fn every_command_has_examples_that_are_right() {
        let whole = [director::cli::command(), realserver_agent::cli::command()];
        for_each(|command| {
            let name = called(command);
            let sections = Section::all_of(command);
            let examples = sections
                .iter()
                .find_map(Section::examples)
                .unwrap_or_default();
            let own: Vec<_> = examples
                .iter()
                .filter(|example| example.command.starts_with(name))
                .collect();
            assert!(!own.is_empty(), "{name} --help has no example");
            for example in examples {
                let words = example.words();
                let program = whole.iter().find(|program| program.get_name() == words[0]);
                let program = program
                    .unwrap_or_else(|| panic!("{}", example.command))
                    .clone();
                let read = program.try_get_matches_from(&words);
                assert!(read.is_ok(), "{}: {}", example.command, read.unwrap_err());
            }
        });
    }

    #[test]
    fn every_command_lists_its_exit_statuses() {
        for_each(|command| {
            let name = called(command);
            let sections = Section::all_of(command);
            let statuses = sections.iter().find_map(Section::exit_statuses);
            let statuses = statuses.unwrap_or_else(|| panic!("{name} --help has no exit status"));
            let codes: Vec<u8> = statuses.iter().map(|(code, _)| *code).collect();
            assert!(
                codes.starts_with(&[0, 1]) && codes.contains(&64),
                "{name}: {codes:?}"
            );
            assert!(codes.is_sorted(), "{name}: {codes:?}");
        });
    }

    #[test]
    fn every_command_with_a_result_prints_json() {
        for_each(|command| {
            let name = called(command);
            let has = command
                .get_arguments()
                .any(|it| it.get_long() == Some("json"));
            let excepted = WITHOUT_JSON.iter().any(|(excepted, _)| *excepted == name);
            assert_ne!(has, excepted, "{name}");
        });
    }

    #[test]
    fn every_option_says_what_it_is() {
        for_each(|command| {
            for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                assert!(!help.is_empty(), "{} {argument}", called(command));
            }
        });
    }

    #[test]
    fn files_are_where_they_are_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        for file in [
            "man8/director.8",
            "man8/director-drain.8",
            "man8/rs-agent.8",
            "man8/rs-agent-stop.8",
            "bash/director",
            "bash/rs-agent",
            "zsh/_director",
            "fish/rs-agent.fish",
        ] {
            let text = fs::read_to_string(directory.path().join(file)).unwrap();
            assert!(text.len() > 500, "{file}");
        }
        let page = fs::read_to_string(directory.path().join("man8/director-drain.8")).unwrap();
        for line in [
            ".TH DIRECTOR-DRAIN 8 \"\" \"lvs-director ",
            "\n.SH EXAMPLES\n.TP\n\\fBdirector drain ",
            "\n.SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\n",
            "\n.SH \"SEE ALSO\"\n\\fBdirector\\fR(8), ",
        ] {
            assert!(page.contains(line), "{line:?} in {page}");
        }
        let bash = fs::read_to_string(directory.path().join("bash/director")).unwrap();
        assert!(bash.contains("drain"));
        assert!(!bash.contains("worker"), "hidden commands are offered");
    }
}
