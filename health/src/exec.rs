//! A program that looks at a server, and says by its exit status what it found.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::agent_check::{Mode, Report};
use nix::errno::Errno;

use crate::check::ExecCheck;
use crate::failure::Failure;
use crate::probe::Good;
use crate::program::{self, Program, Run};

/// Between SIGTERM and SIGKILL for a program that takes too long: the next probe waits for its end.
const GRACE: Duration = Duration::from_millis(100);

/// What stands for the server's address and port in arguments.
const ADDRESS: &str = "{address}";
const PORT: &str = "{port}";

/// Exit status that is a weight of 0 %, where exit statuses are weights; keepalived's
/// `misc_dynamic` has it so.
const NO_WEIGHT: u8 = 2;

/// Runs the program once. A program that takes longer than `limit` is ended, with its whole group,
/// before this returns.
///
/// # Errors
/// When it says that the server isn't well, doesn't end in time, or can't be run.
pub(crate) async fn run(
    check: &ExecCheck,
    server: SocketAddr,
    limit: Duration,
) -> Result<Good, Failure> {
    let program = Program {
        command: command(check, server),
        environment: Vec::new(),
    };
    let mut run = Run::start(program).await.map_err(unless_local)?;
    let Ok(result) = tokio::time::timeout(limit, run.finished()).await else {
        let output = run.last_line();
        run.end(GRACE).await;
        return Err(Failure::Program(program::Failure::TooSlow {
            limit,
            output,
        }));
    };
    match result {
        Ok(()) => Ok(Good {
            report: check.weight_by_exit.then(Report::default),
            ..Good::answer()
        }),
        Err(failure) => match failure.exit_status().and_then(weight) {
            Some(weight) if check.weight_by_exit => Ok(Good {
                report: Some(Report {
                    mode: Mode::Ready,
                    weight,
                }),
                ..Good::answer()
            }),
            _ => Err(unless_local(failure)),
        },
    }
}

fn command(check: &ExecCheck, server: SocketAddr) -> Vec<String> {
    let (address, port) = (server.ip().to_string(), server.port().to_string());
    let words = check.command.iter();
    words
        .map(|word| word.replace(ADDRESS, &address).replace(PORT, &port))
        .collect()
}

/// The weight that an exit status stands for, in percent; more than all of it is all of it.
fn weight(exit_status: u8) -> Option<u8> {
    Some(exit_status.checked_sub(NO_WEIGHT)?.min(100))
}

/// A machine without room for one more process says nothing about the server; a program that isn't
/// there is a server that nobody has seen healthy.
fn unless_local(failure: program::Failure) -> Failure {
    let local = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
    match failure {
        program::Failure::NotRun(error) if is_one_of(&error, &local) => Failure::Local(error),
        failure => Failure::Program(failure),
    }
}

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| errors.contains(&errno))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use lvs_proto::health::FailureKind;

    use super::*;
    use crate::testing::{gone, line_of, script};

    const LIMIT: Duration = Duration::from_secs(5);

    fn server() -> SocketAddr {
        "192.0.2.1:53".parse().unwrap()
    }

    fn check(command: &[&str]) -> ExecCheck {
        ExecCheck {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            weight_by_exit: false,
        }
    }

    #[tokio::test]
    async fn the_recipes_arguments_reach_the_program() {
        let folder = tempfile::tempdir().unwrap();
        // An existing script, called as `UDP_CHECK.sh HOST PORT WORD`.
        let body =
            "[ $# = 3 ] && [ \"$1 $2 $3\" = '192.0.2.1 53 a word' ] || { echo \"$@\"; exit 1; }";
        let path = script(folder.path(), "UDP_CHECK.sh", body);
        let check = check(&[&path, "{address}", "{port}", "a word"]);
        let good = run(&check, server(), LIMIT).await.unwrap();
        assert_eq!((good.answered, good.report), (true, None));
        let found = command(
            &self::check(&["/usr/bin/dig", "@{address}", "-p{port}", "{x}"]),
            server(),
        );
        assert_eq!(found, ["/usr/bin/dig", "@192.0.2.1", "-p53", "{x}"]);
    }

    #[tokio::test]
    async fn exit_statuses_are_verdicts_and_where_asked_weights() {
        for (status, plain, by_exit) in [
            (0, Some(None), Some(Some(100))),
            (1, None, None),
            (2, None, Some(Some(0))),
            (52, None, Some(Some(50))),
            (102, None, Some(Some(100))),
            (255, None, Some(Some(100))),
        ] {
            for (weight_by_exit, expected) in [(false, plain), (true, by_exit)] {
                let check = ExecCheck {
                    weight_by_exit,
                    ..check(&["/bin/sh", "-c", &format!("exit {status}")])
                };
                let found = run(&check, server(), LIMIT).await;
                let weights = found.map(|good| good.report.map(|report| report.weight));
                assert_eq!(weights.ok(), expected, "{status} {weight_by_exit}");
            }
        }
    }

    #[tokio::test]
    async fn a_script_that_is_missing_is_a_failure_of_the_server() {
        let failure = run(&check(&["/nonexistent/check"]), server(), LIMIT).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Exit);
        assert!(!matches!(failure, Failure::Local(_)));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child");
        let body = format!(
            "trap '' TERM; sleep 60 & echo $! > {}; wait",
            child.display()
        );
        let path = script(folder.path(), "hangs", &body);
        let started = Instant::now();
        let failure = run(&check(&[&path]), server(), Duration::from_millis(300)).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Timeout);
        assert_eq!(failure.to_string(), "did not end within 300 ms");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(gone(&line_of(&child).await).await);
    }
}
