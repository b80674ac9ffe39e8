//! SIGHUP: a good file is followed, a bad one changes nothing, and no client notices either.

use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::case::Case;
use crate::forwarding::{self, Table};
use crate::http;
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::{
    CONFIGURATION as DEPLOYED, PATIENCE, Pair, SERVERS, calm, edited, expected_table, nothing_lost,
    same_table, shares, weighted,
};
use crate::topology::director_file;

/// Tables are compared all the time: two late answers must not change one.
static CONFIGURATION: LazyLock<String> = LazyLock::new(|| patient(DEPLOYED));

fn patient(yaml: &str) -> String {
    edited(&calm(yaml), "fall: 2", "fall: 10")
}

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "reload::a_bad_file_changes_nothing",
        a_bad_file_changes_nothing,
    )
    .needing_ipvs(),
    Case::new("reload::a_good_file_is_followed", a_good_file_is_followed).needing_ipvs(),
    Case::new(
        "reload::replaced_servers_lose_nothing",
        replaced_servers_lose_nothing,
    )
    .needing_ipvs(),
];

fn a_bad_file_changes_nothing(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, &CONFIGURATION)?;
    let ds1 = pair.director(0).clone();
    let (table, addresses) = (forwarding::listed(&ds1)?, addresses(&ds1)?);
    let load = pair.ask();
    for (number, (what, yaml, place)) in bad_files().into_iter().enumerate() {
        let file = director_file(&ds1, &yaml)?;
        pair.directors[0].signal(Signal::SIGHUP)?;
        wait_for_reload(&ds1, "failure", number + 1)?;
        same_table(what, &forwarding::listed(&ds1)?, &table)?;
        let found = self::addresses(&ds1)?;
        ensure!(found == addresses, "{what}: {addresses} became {found}");

        let arguments = ["check".as_ref(), file.as_os_str()];
        let check = ds1.output("director", arguments, PATIENCE)?;
        let said = format!("{}{}", check.stdout, check.stderr);
        ensure!(
            !check.success() && said.contains(&format!("director.yaml:{place}: ")),
            "{what}, which is in {place}: {said}"
        );
    }
    // Longer than what a table or a VRRP timer would need to show a change.
    sleep(Duration::from_secs(2));
    same_table("later", &forwarding::table(&ds1)?, &table)?;
    ensure!(pair.directors[0].is_running(), "the director has ended");
    let report = load.stop();
    println!("measured: under bad files: {report}");
    nothing_lost(&report)?;
    Ok(())
}

/// What is wrong, the file, and the line and column of the mistake.
fn bad_files() -> [(&'static str, String, String); 3] {
    let unclosed = edited(
        &CONFIGURATION,
        "protocols: [udp, tcp]",
        "protocols: [udp, tcp",
    );
    let unknown = edited(&CONFIGURATION, "scheduler: wrr", "shceduler: wrr");
    let service = CONFIGURATION
        .split_once("services:\n")
        .unwrap_or_default()
        .1;
    let service = service.split_once("# For Prometheus").unwrap_or_default().0;
    let duplicate = edited(&CONFIGURATION, service, &service.repeat(2));
    // The parser misses the bracket where the next key comes.
    [
        (
            "a syntax error",
            place(&unclosed, "scheduler:", 0),
            unclosed,
        ),
        ("an unknown key", place(&unknown, "shceduler:", 0), unknown),
        (
            "a duplicate service",
            place(&duplicate, "resolver\n", 1),
            duplicate,
        ),
    ]
    .map(|(what, place, yaml)| (what, yaml, place))
}

/// Line and column of the nth occurrence of a text.
fn place(yaml: &str, text: &str, occurrence: usize) -> String {
    let at = yaml
        .match_indices(text)
        .nth(occurrence)
        .map_or(0, |(at, _)| at);
    let before = &yaml[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    format!("{line}:{}", at - line_start + 1)
}

fn a_good_file_is_followed(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, &CONFIGURATION)?;
    let ds1 = pair.director(0).clone();
    let one_server = edited(
        &CONFIGURATION,
        "      - { address: 192.168.56.184, weight: 1 }\n",
        "",
    );
    let before = addresses(&ds1)?;
    let load = pair.ask();
    sleep(Duration::from_millis(500));
    for (number, (yaml, expected)) in [
        (
            patient(&weighted([1, 3])),
            [(SERVERS[0], 1), (SERVERS[1], 3)].as_slice(),
        ),
        (one_server, &[(SERVERS[0], 1)]),
        (
            CONFIGURATION.to_owned(),
            &[(SERVERS[0], 1), (SERVERS[1], 1)],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        director_file(&ds1, &yaml)?;
        pair.directors[0].signal(Signal::SIGHUP)?;
        wait_for_reload(&ds1, "success", number + 1)?;
        let expected: Table = expected_table(expected);
        wait_until("the table follows the file", Duration::from_secs(5), || {
            forwarding::table(&ds1).is_ok_and(|table| table == expected)
        })?;
        sleep(Duration::from_secs(1));
        let found = addresses(&ds1)?;
        ensure!(found == before, "{before} became {found}");
    }
    let report = load.stop();
    println!("measured: under good files: {report}");
    nothing_lost(&report)?;
    let load = pair.ask();
    sleep(Duration::from_secs(1));
    let [first, second] = shares(&load.stop());
    ensure!(
        first.abs_diff(second) <= 1,
        "not alternating: {first}:{second}"
    );
    Ok(())
}

/// The old ones stay until there is a verdict on the new ones.
fn replaced_servers_lose_nothing(lab: &mut Lab) -> Result<()> {
    let only = |server: &str| {
        let one = edited(
            &CONFIGURATION,
            "      - { address: 192.168.56.184, weight: 1 }\n",
            "",
        );
        edited(
            &one,
            "192.168.56.183, weight: 1",
            &format!("{server}, weight: 1"),
        )
    };
    let pair = Pair::start(lab, &CONFIGURATION)?;
    let ds1 = pair.director(0).clone();
    let load = pair.ask();
    for server in SERVERS {
        director_file(&ds1, &only(server))?;
        pair.directors[0].signal(Signal::SIGHUP)?;
        let expected = expected_table(&[(server, 1)]);
        wait_until("the table follows the file", PATIENCE, || {
            forwarding::table(&ds1).is_ok_and(|table| table == expected)
        })?;
    }
    sleep(Duration::from_secs(1));
    let report = load.stop();
    println!("measured: all servers replaced: {report}");
    ensure!(report.lost() == 0, "{report}");
    Ok(())
}

fn addresses(host: &Host) -> Result<String> {
    host.run("ip address show")
}

/// Waits until the director says that it read its file so often with this result.
fn wait_for_reload(host: &Host, result: &str, count: usize) -> Result<()> {
    let line = format!("director_configuration_reloads_total{{result=\"{result}\"}} {count}");
    wait_until("the file is read", PATIENCE, || {
        let server = std::net::SocketAddr::from(([127, 0, 0, 1], 9712));
        http::get(host, server, "/metrics")
            .is_ok_and(|metrics| metrics.lines().any(|found| found == line))
    })?;
    Ok(())
}
