//! Everything that a service can be, in a real kernel and for a real client.

mod change;
mod crash;
mod double_duty;
mod drift;
mod forwarding;
mod options;
mod removal;
mod scheduling;
mod synchronization;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::case::Case;
use crate::forwarding::{Table, listed, saved};
use crate::lab::{Host, Process};
use crate::scenario::{PATIENCE, same_table};
use crate::topology::start_director;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "services::each_forwarding_method_is_answered",
        forwarding::each_method_is_answered,
    )
    .needing_ipvs(),
    Case::new(
        "services::each_scheduler_spreads",
        scheduling::each_scheduler_spreads,
    )
    .needing_ipvs(),
    Case::new(
        "services::each_option_is_kept",
        options::each_option_is_kept,
    )
    .needing_ipvs(),
    Case::new(
        "services::drift_is_repaired_and_counted",
        drift::is_repaired_and_counted,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "services::a_killed_director_takes_up_where_it_was",
        crash::a_killed_director_takes_up_where_it_was,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "services::a_planned_change_loses_nothing",
        change::a_planned_change_loses_nothing,
    )
    .needing_ipvs(),
    Case::new(
        "services::the_next_question_goes_elsewhere",
        removal::the_next_question_goes_elsewhere,
    )
    .needing_ipvs()
    .within(Duration::from_secs(180)),
    Case::new(
        "services::a_question_goes_round_in_no_circle",
        double_duty::a_question_goes_round_in_no_circle,
    )
    .needing_ipvs(),
    Case::new(
        "services::open_connections_survive",
        synchronization::open_connections_survive,
    )
    .needing_ipvs(),
];

/// Starts a director, and waits until its kernel has exactly what `ipvsadm -S -n` prints as `lines`.
fn programmed(host: &Host, yaml: &str, lines: &str) -> Result<Process> {
    let director = start_director(host, yaml)?;
    let expected: Table = lines.lines().map(str::to_owned).collect();
    let start = Instant::now();
    while let Err(difference) = same_table("ipvsadm -S -n", &saved(host)?, &expected) {
        if start.elapsed() > PATIENCE {
            return Err(difference);
        }
    }
    let expected = lines.lines().map(as_listed).collect();
    same_table("ipvsadm -L -n", &listed(host)?, &expected)?;
    Ok(director)
}

/// A line of `ipvsadm -S -n` as [`listed`] has it.
fn as_listed(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |option: &str| {
        let found = words.windows(2).find(|pair| pair[0] == option);
        found.map(|pair| pair[1])
    };
    let (protocol, service) = [
        ("TCP", "-t"),
        ("UDP", "-u"),
        ("SCTP", "--sctp-service"),
        ("FWM", "-f"),
    ]
    .into_iter()
    .find_map(|(protocol, option)| Some((protocol, after(option)?)))
    .unwrap_or_default();
    let mut listed = vec![protocol.to_owned(), service.to_owned()];
    if let Some(server) = after("-r") {
        let forwarding = [("-g", "Route"), ("-m", "Masq"), ("-i", "Tunnel")];
        let forwarding = forwarding
            .into_iter()
            .find(|(option, _)| words.contains(option));
        listed.extend(["->", server, forwarding.unwrap_or_default().1].map(str::to_owned));
        listed.extend(after("-w").map(str::to_owned));
        return listed.join(" ");
    }
    if words.contains(&"-6") {
        listed.push("IPv6".into());
    }
    listed.extend(after("-s").map(str::to_owned));
    listed.extend(after("-b").map(|flags| format!("({flags})")));
    listed.extend(after("-p").map(|timeout| format!("persistent {timeout}")));
    listed.extend(after("-M").map(|mask| format!("mask {mask}")));
    if words.contains(&"-o") {
        listed.push("ops".into());
    }
    listed.join(" ")
}
