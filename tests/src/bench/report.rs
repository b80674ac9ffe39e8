//! What was measured, as a document.

use std::fmt::Write;
use std::time::Duration;

use super::meter::Cost;
use super::{Figures, Phase, ROUNDS, SERVERS, SERVICES};

/// A figure of each phase.
struct Column {
    title: &'static str,
    value: fn(&Figures, Phase) -> Option<f64>,
    written: fn(f64) -> String,
}

/// `docs/benchmarks.md`, whole.
pub fn document(all: &[(&'static str, Figures)], kernel: &str, date: &str) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         `make bench` wrote this on {date}: director, keepalived and ipvsadm one after the other\n\
         with the same table of {SERVICES} UDP services with {SERVERS} real servers each and without \
         checks,\n{kernel}. The median of {ROUNDS} rounds; ratios\n\
         are to the director's figure, so above 1 the director needs less. Seconds mean little on an\n\
         emulated processor; ratios and counts hold.\n\n"
    );
    let phases = [
        (Phase::Program, "program the table into an empty kernel"),
        (Phase::ReloadSame, "reload without a change"),
        (Phase::ReloadOneMore, "reload with one more server"),
        (Phase::Teardown, "take everything away"),
    ];
    let columns = [
        Column {
            title: "time",
            value: |it, phase| median(it, phase, |cost| cost.time.as_secs_f64()),
            written: milliseconds,
        },
        Column {
            title: "processor time",
            value: |it, phase| median(it, phase, |cost| cost.processor_time.as_secs_f64()),
            written: milliseconds,
        },
        Column {
            title: "netlink messages",
            value: |it, phase| median(it, phase, |cost| cost.messages as f64),
            written: count,
        },
        Column {
            title: "system calls on sockets",
            value: socket_calls,
            written: count,
        },
    ];
    for (phase, title) in phases {
        let _ = writeln!(text, "## To {title}\n");
        head(&mut text, &columns.each_ref().map(|column| column.title));
        let ours = &all[0].1;
        for (name, figures) in all {
            let cells = columns.each_ref().map(|column| {
                let Some(here) = (column.value)(figures, phase) else {
                    return "".to_owned();
                };
                let reference = (column.value)(ours, phase).filter(|reference| *reference > 0.0);
                ratio(here, reference, *name == all[0].0, column.written)
            });
            if cells.iter().any(|cell| !cell.is_empty()) {
                row(&mut text, name, &cells);
            }
        }
        text += "\n";
    }
    text += "## While it runs\n\n";
    head(
        &mut text,
        &[
            "resident",
            "proportional",
            "processor time in an idle minute",
        ],
    );
    let ours = &all[0].1;
    for (name, figures) in all.iter().filter(|(_, figures)| figures.resident > 0) {
        let first = *name == all[0].0;
        let cells = [
            ratio(
                figures.resident as f64,
                Some(ours.resident as f64),
                first,
                mebibytes,
            ),
            ratio(
                figures.proportional as f64,
                Some(ours.proportional as f64),
                first,
                mebibytes,
            ),
            ratio(
                figures.idle_minute.as_secs_f64(),
                Some(ours.idle_minute.as_secs_f64()),
                first,
                milliseconds,
            ),
        ];
        row(&mut text, name, &cells);
    }
    text
}

fn head(text: &mut String, columns: &[&str]) {
    // Writing to a text can't fail.
    let _ = writeln!(text, "| | {} |", columns.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len()));
}

fn row(text: &mut String, name: &str, cells: &[String]) {
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

fn ratio(value: f64, reference: Option<f64>, first: bool, written: fn(f64) -> String) -> String {
    match reference {
        Some(reference) if !first => {
            format!("{} ({:.1} ×)", written(value), value / reference)
        }
        _ => written(value),
    }
}

fn milliseconds(seconds: f64) -> String {
    let time = Duration::from_secs_f64(seconds);
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn count(things: f64) -> String {
    format!("{things:.0}")
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

fn median(figures: &Figures, phase: Phase, value: fn(&Cost) -> f64) -> Option<f64> {
    let costs = figures.costs.iter().filter(|(of, _)| *of == phase);
    let mut values: Vec<f64> = costs.map(|(_, cost)| value(cost)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn socket_calls(figures: &Figures, phase: Phase) -> Option<f64> {
    let calls = figures.socket_calls.iter().find(|(of, _)| *of == phase);
    calls.map(|(_, calls)| *calls as f64)
}
