//! A planned handover, and the way back, lose nothing of 1,000 questions a second.
//!
//! The questions are pings: the kernel answers them, as it is the kernel that forwards. With IPVS and
//! real servers behind, `failover::a_planned_handover_loses_nothing` shows the same.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::PAUSE;
use super::pair::{Pair, Settings};
use crate::lab::Lab;
use crate::scenario::PATIENCE;
use crate::topology::VIP;
use crate::traffic::Load;
use crate::{figures, ping};

const INTERVAL: Duration = Duration::from_millis(1);
/// Of the questions that one a millisecond would be; the others a busy client asks late.
const LEAST_SHARE: f64 = 0.5;

pub(super) fn a_planned_handover_loses_nothing(lab: &mut Lab) -> Result<()> {
    // A machine that stands still for longer than the others wait has a failover, and loses.
    let interval = Duration::from_millis(lab.mode().choose(300, 100));
    let settings = Settings {
        interval,
        ..Settings::FAST
    };
    let mut pair = Pair::start(lab, settings)?;
    for _ in 0..lab.mode().choose(3, 10) {
        lost_during(&pair, "director handover", || {
            let text = pair.hosts[0].run("director handover")?;
            ensure!(
                pair.hosts[1].holds(VIP) && !pair.hosts[0].holds(VIP),
                "{text}"
            );
            Ok(())
        })?;
        lost_during(&pair, "director handover --release", || {
            pair.hosts[0].run("director handover --release")?;
            pair.wait_for_active(0)?;
            pair.wait_for_backup(1)
        })?;
    }
    for _ in 0..lab.mode().choose(3, 10) {
        let load = Loaded::start(&pair);
        let status = pair.directors[0].terminate(PATIENCE)?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        pair.wait_for_active(1)?;
        load.stop("SIGTERM")?;
        let load = Loaded::start(&pair);
        pair.restart(0)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
        load.stop("the way back")?;
    }
    Ok(())
}

fn lost_during(pair: &Pair, what: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let load = Loaded::start(pair);
    change()?;
    load.stop(what)
}

/// A client that asks.
struct Loaded {
    load: Load,
    start: Instant,
}

impl Loaded {
    fn start(pair: &Pair) -> Self {
        let loaded = Self {
            load: ping::start(&pair.client, VIP, INTERVAL),
            start: Instant::now(),
        };
        sleep(PAUSE);
        loaded
    }

    fn stop(self, what: &str) -> Result<()> {
        sleep(PAUSE);
        let asked_for = self.start.elapsed();
        let report = self.load.stop();
        let rate = report.sent() as f64 / asked_for.as_secs_f64();
        figures::note(&format!("{what}: questions a second"), rate, "", None);
        figures::time(&format!("{what}: longest gap"), report.longest_gap());
        figures::at_most(&format!("{what}: lost"), report.lost(), 0)?;
        ensure!(rate >= LEAST_SHARE / INTERVAL.as_secs_f64(), "{report}");
        Ok(())
    }
}
