//! `docs/getting-started.md`, played word for word.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::binaries;
use crate::case::{Case, Mode};
use crate::dns::Questions;
use crate::figures;
use crate::lab::{Host, Lab, Output, wait_until};
use crate::scenario::SERVERS;
use crate::topology::{DnsPair, VIP};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[Case::new(
    "newcomer::getting_started_works_word_for_word",
    getting_started_works_word_for_word,
)
.needing_ipvs()
.soaked()
.within(Duration::from_secs(300))];

const PAGE: &str = include_str!("../../../docs/getting-started.md");

/// For a block of commands; a drain takes its time.
const LIMIT: Duration = Duration::from_secs(40);

/// For what is true a moment later, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands of the page, and the machines that they are for.
struct Block<'p> {
    hosts: Vec<&'p str>,
    commands: String,
}

impl Block<'_> {
    /// Only asks, and may be asked again.
    fn asks(&self) -> bool {
        let asking = ["dig ", "director status", "rs-agent status"];
        self.commands
            .lines()
            .all(|line| asking.iter().any(|word| line.starts_with(word)))
    }
}

fn getting_started_works_word_for_word(lab: &mut Lab) -> Result<()> {
    let begun = Instant::now();
    let pair = DnsPair::with_service_lan_only(lab)?;
    let _named = pair.start_named()?;
    for folder in ["/etc/lvs-director", "/var/lib/lvs-director"] {
        for director in [&pair.ds1, &pair.ds2] {
            // All machines of the lab share them otherwise.
            director.within(move || std::fs::create_dir_all(folder))?;
            director.hide_folder(folder)?;
        }
    }
    let packages = lab.directory().join("packages");
    std::fs::create_dir_all(&packages)?;
    for package in ["lvs-director_1.deb", "lvs-rs-agent_1.deb"] {
        std::fs::write(packages.join(package), "")?;
    }
    let blocks = blocks(PAGE)?;
    ensure!(
        blocks.len() > 10,
        "the page has {} blocks only",
        blocks.len()
    );
    let (mut load, mut control) = (None, None);
    let mut played = 0;
    for block in &blocks {
        for name in &block.hosts {
            let host = pair.hosts().into_iter().find(|host| host.name() == *name);
            let host = host.with_context(|| format!("the page names {name}"))?;
            play(host, &packages, block)?;
            played += 1;
        }
        // From the first answer on nothing may be lost.
        if block.commands.starts_with("dig") {
            let questions = |address| Questions::new(address).every(Duration::from_millis(100));
            // The second sees every stall of the machine below, and nothing of directors.
            control = Some(questions(SERVERS[1].parse()?).start(&pair.client));
            load = Some(questions(VIP).from_port(40_000).start(&pair.client));
        }
    }
    let report = load.context("the page asks nothing")?.stop();
    let control = control.context("the page asks nothing")?.stop();
    println!("measured: a client that asks a server itself: {control}");
    println!(
        "{played} blocks of commands in {:.0} s: {report}",
        begun.elapsed().as_secs_f64()
    );
    ensure!(report.sent() > 20, "{report}");
    // Beside other tests an emulated machine stands still for longer than adverts every 100 ms allow; a
    // step that loses a second of questions is seen even so.
    let bound = match lab.mode() {
        Mode::Once => report.sent() / 20,
        Mode::Soak => 0,
    };
    figures::at_most(
        "questions lost on the newcomer's path",
        report.lost(),
        bound,
    )?;
    ensure!(
        report.answers().len() == 2,
        "not both servers answered: {report}"
    );
    wait_until("the first director alone holds the VIP", PATIENCE, || {
        pair.ds1.holds(VIP) && !pair.ds2.holds(VIP)
    })?;
    let table = pair.ds1.run("ipvsadm -Ln")?;
    ensure!(
        table.matches("192.168.56.184:53").count() == 2 && table.contains("Route   2"),
        "the reload's weight is not in the table:\n{table}"
    );
    for (host, program, user) in [
        (&pair.ds1, "director", "lvs-director"),
        (&pair.rs1, "rs-agent", "lvs-rs-agent"),
    ] {
        let process = host.run(&format!("cat /run/stand-in/{program}/pid"))?;
        let status = host.run(&format!("cat /proc/{}/status", process.trim()))?;
        let uid = host.run(&format!("id --user {user}"))?;
        ensure!(
            status.contains(&format!("Uid:\t{}\t", uid.trim())),
            "{program} runs as another than {user}: {status}"
        );
    }
    let threads = pair.ds1.run("ps -e -L -o comm=,cls=")?;
    ensure!(
        threads
            .lines()
            .any(|line| line.split_whitespace().eq(["vrrp", "FF"])),
        "adverts have no real-time priority by the unit's limits:\n{threads}"
    );
    Ok(())
}

fn play(host: &Host, packages: &Path, block: &Block<'_>) -> Result<()> {
    let mut last = run(host, packages, &block.commands)?;
    if block.asks() {
        let what = format!("`{}` on {}", block.commands.trim(), host.name());
        // It says why it isn't well yet.
        let _ = wait_until(&what, PATIENCE, || {
            last.success()
                || run(host, packages, &block.commands)
                    .map(|output| last = output)
                    .is_err()
        });
    }
    if !last.success() {
        let logs = host.output("sh", ["-c", "cat /run/stand-in/*/log"], LIMIT)?;
        bail!(
            "on {}:\n{}ended with {}:\n{}{}{}",
            host.name(),
            block.commands,
            last.status,
            last.stdout,
            last.stderr,
            logs.stdout
        );
    }
    if block.commands.starts_with("dig") {
        ensure!(
            last.stdout.lines().count() == 2,
            "dig printed {}",
            last.stdout
        );
    }
    Ok(())
}

/// In the folder with the packages; `apt` and `systemctl` are the lab's.
fn run(host: &Host, packages: &Path, commands: &str) -> Result<Output> {
    let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-ins");
    let director = binaries::path("director")?;
    let programs = director.parent().context("a program in no folder")?;
    let script = format!(
        "cd {}\nexport PATH={}:$PATH PROGRAMS={}\n{commands}",
        packages.display(),
        stand_ins.display(),
        programs.display()
    );
    host.output("sh", ["-e", "-c", &script], LIMIT)
}

/// The fenced blocks that say ```` ```sh MACHINE... ````.
fn blocks(page: &str) -> Result<Vec<Block<'_>>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(fence) => {
                let hosts = fence
                    .strip_prefix("sh ")
                    .context("a block for no machine")?;
                let hosts = hosts.split(' ').collect();
                blocks.push(Block {
                    hosts,
                    commands: String::new(),
                });
                open = true;
            }
            None if open => {
                if let Some(block) = blocks.last_mut() {
                    block.commands.push_str(line);
                    block.commands.push('\n');
                }
            }
            None => {}
        }
    }
    Ok(blocks)
}
