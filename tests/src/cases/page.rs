//! The page for people, in a real browser.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::metrics;
use crate::browser::{Browser, Screen};
use crate::case::Case;
use crate::crowd::{self, Crowd};
use crate::lab::{Lab, Process, wait_until};
use crate::scenario::{PATIENCE, calm, resident, worker};
use crate::topology::{DnsPair, VIP, start_director};
use crate::{figures, http};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("page::shows_a_failover_within_2_s", shows_a_failover)
        .within(Duration::from_secs(400))
        .needing_operator()
        .soaked(),
    Case::new("page::draws_1000_servers", draws_1000_servers).needing_operator(),
    Case::new(
        "page::says_when_the_director_is_gone",
        says_when_the_director_is_gone,
    )
    .needing_operator(),
    Case::new(
        "page::gives_nothing_to_strangers",
        gives_nothing_to_strangers,
    )
    .needing_operator(),
];

/// What a change of role may take to be seen.
const SEEN: Duration = Duration::from_secs(2);
/// For so long the page waits for an answer.
const HUNG: Duration = Duration::from_secs(5);
/// What 1,000 servers may take to be drawn, and how often that is tried.
const DRAWN: Duration = Duration::from_millis(200);
const RUNS: usize = 5;

/// Keeps what the page measures of itself.
const WATCH: &str = "window.draws = [];
    new PerformanceObserver((list) => window.draws.push(...list.getEntries().map((one) => one.duration)))
        .observe({ type: 'measure' });";

/// Whether the page asks each second again, which it does less often after something that took long.
const ASKS_EACH_SECOND: &str = "(() => {
    const asked = performance.getEntriesByType('resource').filter((one) => one.name.endsWith('api/status'));
    return asked.length >= 2 && asked.at(-1).startTime - asked.at(-2).startTime < 1300;
})()";

const ROLE: &str = "document.querySelector('[data-instance=dns] .badge')?.textContent";

/// Probes two servers and forwards nothing; the page is for the whole LAN.
fn configuration() -> String {
    metrics::configuration().replace("127.0.0.1:9712", "0.0.0.0:9712")
}

fn url(host: &str) -> String {
    format!("http://{host}:9712/")
}

fn shows_a_failover(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    let mut first = start_director(&hosts.ds1, &configuration())?;
    let _second = start_director(&hosts.ds2, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let mut browser = Browser::start(&hosts.client)?;
    let page = url("192.168.56.182");
    browser.open(&page)?;
    browser.wait_until(&format!("{ROLE} === 'backup'"), PATIENCE)?;
    // What is known of servers and of the other director is there.
    browser.wait_until(
        "[...document.querySelectorAll('[data-server]')].map((row) => row.dataset.server + ' ' + \
         row.querySelector('.badge').textContent).join() === '192.168.56.183 in,192.168.56.184 in'",
        PATIENCE,
    )?;
    let topology = "document.querySelector('#topology svg').textContent";
    let drawn = browser.evaluate(topology)?;
    let drawn = drawn.as_str().unwrap_or_default();
    for part in [
        "192.168.56.181",
        "ds2",
        "resolver",
        "192.168.56.184",
        "backup",
    ] {
        ensure!(drawn.contains(part), "no {part} in {drawn}");
    }
    screenshot(lab, &mut browser)?;
    browser.set_screen(Screen::DESKTOP)?;
    browser.evaluate("performance.clearResourceTimings()")?;
    browser.wait_until(ASKS_EACH_SECOND, PATIENCE)?;

    first.kill_family();
    wait_until("the VIP's new holder", PATIENCE, || hosts.ds2.holds(VIP))?;
    let seen = browser.wait_until(&format!("{ROLE} === 'active'"), PATIENCE)?;
    let margin = lab.mode().choose(Duration::from_secs(1), Duration::ZERO);
    figures::within("a change of role is on the page after", seen, SEEN + margin)?;
    // It is drawn, told to who can't see it, and among the events.
    browser.wait_until(
        &format!("{topology}.includes('192.168.56.185')"),
        SEEN + margin,
    )?;
    let announced = browser.evaluate("document.getElementById('announcement').textContent")?;
    ensure!(announced == json!("dns is active now"), "{announced}");
    browser.wait_until(
        "document.querySelector('#events [data-kind=role_changed]')?.textContent.includes('active') === true",
        Duration::from_secs(5) + margin,
    )?;
    // The hour's plots have begun: a point of latency now, and one at least before.
    browser.wait_until(
        "document.querySelectorAll('.pool .line[d^=M]').length >= 2",
        Duration::from_secs(25),
    )?;

    let asked = browser.asked()?;
    ensure!(asked.contains(&format!("{page}api/history")), "{asked:?}");
    let outside: Vec<&String> = asked.iter().filter(|one| !one.starts_with(&page)).collect();
    ensure!(outside.is_empty(), "asked elsewhere: {outside:?}");
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    can_be_used_by_keys(&mut browser)?;
    // The browser does enforce the policy, and does say so.
    let refused = browser.evaluate(
        "new Promise((resolve) => { const script = document.createElement('img'); \
         script.onerror = () => resolve('refused'); script.src = 'http://192.168.56.181:9/x.png'; })",
    )?;
    ensure!(refused == json!("refused"), "{refused}");
    let complaints = browser.complaints()?;
    ensure!(
        complaints
            .iter()
            .any(|one| one.contains("Content Security Policy")),
        "{complaints:#?}"
    );
    Ok(())
}

/// Tab reaches the services first, and every link and field after that.
fn can_be_used_by_keys(browser: &mut Browser) -> Result<()> {
    browser.evaluate("document.activeElement.blur()")?;
    browser.press("Tab")?;
    let first = browser.evaluate("document.activeElement.textContent")?;
    ensure!(first == json!("To the services"), "{first}");
    browser.press("Enter")?;
    let there = browser.evaluate("document.activeElement.id")?;
    ensure!(there == json!("services"), "{there}");
    // Headings go down by one, everything that is drawn has a name, and each table heads its columns.
    let faults = browser.evaluate(
        "[...[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))
            .flatMap((level, index, all) => index > 0 && level > all[index - 1] + 1 ? ['h' + level] : []),
          ...[...document.querySelectorAll('svg, meter')].filter((one) => !one.getAttribute('aria-label'))
            .map((one) => one.outerHTML),
          ...[...document.querySelectorAll('table')].filter((one) => !one.caption.textContent
            || one.querySelector('th:not([scope])')).map(() => 'table')]",
    )?;
    ensure!(faults == json!([]), "{faults}");
    let contrast = browser.evaluate(CONTRAST)?;
    ensure!(contrast == json!([]), "too little contrast: {contrast}");
    browser.set_screen(Screen::DARK)?;
    // Colours change over a moment.
    browser.wait_until(
        "getComputedStyle(document.body).backgroundColor === 'rgb(13, 17, 23)'
            && document.getAnimations().length === 0",
        Duration::from_secs(5),
    )?;
    let contrast = browser.evaluate(CONTRAST)?;
    ensure!(
        contrast == json!([]),
        "too little contrast in the dark: {contrast}"
    );
    Ok(())
}

/// All texts whose contrast with their ground is below 4.5 to 1 (WCAG 2.2, criterion 1.4.3).
const CONTRAST: &str = "(() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const part = (value) => value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const faults = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('svg, noscript')) continue;
        const two = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        const ratio = (two[0] + 0.05) / (two[1] + 0.05);
        if (ratio < 4.5) faults.add(`${walker.currentNode.data}: ${ratio.toFixed(2)}`);
    }
    return [...faults];
})()";

/// Pictures beside the logs, and where `make page` wants them.
fn screenshot(lab: &Lab, browser: &mut Browser) -> Result<()> {
    let mut folders = vec![lab.directory().to_owned()];
    let mut points = 1;
    if let Some(folder) = std::env::var_os("LVS_SCREENSHOTS") {
        folders.push(folder.into());
        // Plots that show something take a while.
        points = 24;
    }
    browser.wait_until(
        &format!(
            "(document.querySelectorAll('.pool .line[d^=M]')[0]?.getAttribute('d').split(/[ML]/).length ?? 0) > {points}"
        ),
        Duration::from_secs(30 + 10 * points),
    )?;
    for (name, screen) in [
        ("desktop", Screen::DESKTOP),
        ("dark", Screen::DARK),
        ("phone", Screen::PHONE),
    ] {
        browser.set_screen(screen)?;
        // As wide as there is room for, and nothing stands out.
        browser.wait_until(
            &format!(
                "innerWidth === {} && document.documentElement.scrollWidth <= innerWidth
                    && document.getElementById('topology').clientWidth - 24
                        === Number(document.querySelector('#topology svg').getAttribute('width'))
                    && document.getAnimations().length === 0",
                screen.width
            ),
            Duration::from_secs(5),
        )?;
        for folder in &folders {
            browser.screenshot(&folder.join(format!("{name}.png")))?;
        }
    }
    Ok(())
}

fn draws_1000_servers(lab: &mut Lab) -> Result<()> {
    const SERVERS: u16 = 1000;
    let director = lab.add_host("ds1")?;
    let servers = lab.add_host("servers")?;
    let lan = lab.add_lan("lan")?;
    lab.attach(&director, "eth2", &lan, &["192.168.56.181/24"])?;
    lab.attach(&servers, "eth2", &lan, &["192.168.56.2/24"])?;
    director.run(&format!("ip route add {} via 192.168.56.2", crowd::NETWORK))?;
    // One in a hundred is silent.
    let _crowd = Crowd::start(&servers, |server| server.octets()[3] % 100 == 7)?;
    let _director = start_director(&director, &thousand(SERVERS))?;
    let mut browser = Browser::start(&director)?;
    browser.set_screen(Screen::DESKTOP)?;
    browser.prepare(WATCH)?;
    let silent = (1..=SERVERS)
        .filter(|number| crowd::server(*number).octets()[3] % 100 == 7)
        .count();
    wait_until("verdicts", Duration::from_secs(60), || {
        let told = http::get(
            &director,
            "127.0.0.1:9712".parse().expect("an address"),
            "/api/status",
        );
        let told = told
            .ok()
            .and_then(|told| serde_json::from_str::<Value>(&told).ok());
        let counts = told.map(|told| {
            let servers = told
                .pointer("/services/0/pools/0/servers")
                .and_then(Value::as_array);
            ["in", "out"].map(|state| {
                let servers = servers.into_iter().flatten();
                servers.filter(|one| one["state"] == json!(state)).count()
            })
        });
        counts == Some([usize::from(SERVERS) - silent, silent])
    })?;
    let text = http::get(&director, "127.0.0.1:9712".parse()?, "/api/status")?;
    println!(
        "measured: the status of {SERVERS} servers is {} bytes",
        text.len()
    );
    browser.open(&url("127.0.0.1"))?;
    browser.wait_until("window.draws?.length >= 1", PATIENCE)?;
    // At first the worst fifty, with all as squares above.
    let first = browser.evaluate(
        "[document.querySelectorAll('[data-server]').length,
          document.querySelector('caption').textContent,
          document.querySelector('[data-server] .badge').textContent]",
    )?;
    let expected = json!([
        50,
        format!(
            "1,000 servers: {silent} out, {} in",
            usize::from(SERVERS) - silent
        ),
        "out"
    ]);
    ensure!(first == expected, "{first}, expected {expected}");
    let button = "document.querySelector('article button')";
    let more = browser.evaluate(&format!("{button}.textContent"))?;
    ensure!(more == json!("Show all 1,000 servers"), "{more}");
    let found = browser.evaluate(
        "(() => { const field = document.querySelector('input'); field.value = '10.1.1.99';
            field.dispatchEvent(new Event('input')); 
            const found = [...document.querySelectorAll('[data-server]')].map((row) => row.dataset.server);
            field.value = ''; field.dispatchEvent(new Event('input')); return found; })()",
    )?;
    ensure!(found == json!(["10.1.1.99"]), "{found}");
    // Rows come in parts; nothing else is done meanwhile.
    let click = format!(
        "new Promise((resolve) => {{ const began = performance.now(); {button}.click();
            const look = () => document.querySelectorAll('[data-server]').length < {SERVERS}
                ? requestAnimationFrame(look) : resolve(performance.now() - began);
            look(); }})"
    );
    let (mut all, mut draws, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        browser.open(&url("127.0.0.1"))?;
        browser.wait_until("window.draws?.length >= 1", PATIENCE)?;
        all.push(browser.evaluate(&click)?);
        let rows = browser.evaluate("document.querySelectorAll('[data-server]').length")?;
        ensure!(rows == json!(SERVERS), "{rows}");
        browser.evaluate("window.draws.splice(1)")?;
        browser.wait_until("window.draws.length >= 3", PATIENCE)?;
        let measured = browser.evaluate("window.draws")?;
        draws.push(measured[0].clone());
        again.extend([measured[1].clone(), measured[2].clone()]);
    }
    let (least, most) = span(&all).context("not measured")?;
    println!("measured: a row for each comes within {least:.0?} to {most:.0?}, in parts");
    // Between the parts the machine does whatever else there is.
    ensure!(least < 25 * DRAWN, "a row for each took {least:?}");
    for (what, took) in [
        ("1,000 servers are drawn in", draws),
        ("the next answers with a row for each in", again),
    ] {
        let (least, most) = span(&took).context("not measured")?;
        println!("measured: {what} {least:.0?} to {most:.0?}");
        // Whatever else runs makes this longer, and nothing makes it shorter.
        figures::within(&format!("{what} at least"), least, DRAWN)?;
    }
    browser.screenshot(&lab.directory().join("thousand.png"))?;
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

/// The least and the most of some milliseconds.
fn span(values: &[Value]) -> Option<(Duration, Duration)> {
    let values = values
        .iter()
        .map(Value::as_f64)
        .collect::<Option<Vec<_>>>()?;
    let least = values.iter().copied().reduce(f64::min)?;
    let most = values.iter().copied().reduce(f64::max)?;
    let time = |milliseconds: f64| Duration::from_secs_f64(milliseconds / 1000.0);
    Some((time(least), time(most)))
}

/// One service with so many servers, each probed once a second.
fn thousand(servers: u16) -> String {
    let mut file = "dataplane: none
services:
  - name: resolver
    address: 192.168.56.185
    external: true
    port: 53
    protocols: [udp]
    check:
      dns: { name: www.abc.local, type: A }
      interval: 1s
      timeout: 500ms
    real_servers:
"
    .to_owned();
    for number in 1..=servers {
        file.push_str(&format!(
            "      - {{ address: {} }}\n",
            crowd::server(number)
        ));
    }
    file.push_str("metrics: { listen: \"127.0.0.1:9712\" }\n");
    file
}

fn says_when_the_director_is_gone(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let mut director = start_director(&hosts.ds1, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let mut browser = Browser::start(&hosts.client)?;
    browser.open(&url("192.168.56.181"))?;
    let link = "document.getElementById('link').textContent";
    browser.wait_until(
        &format!("{link} === 'live' && {ROLE} === 'active'"),
        PATIENCE,
    )?;
    // No server answers: the page says what `director status` does.
    let quorum = "resolver: nobody takes queries: clients are told that nobody listens";
    browser.wait_until(
        &format!(
            "[...document.querySelectorAll('#problems:not([hidden]) li')]
                .some((line) => line.checkVisibility() && line.textContent === '{quorum}')"
        ),
        PATIENCE,
    )?;
    let told = hosts.ds1.output("director", ["status"], PATIENCE)?.stdout;
    ensure!(told.lines().any(|line| line == quorum), "{told}");
    // A server of two protocols is shown as the worse of them, in the list and in the drawing.
    let worst = browser.evaluate(
        "import('/servers.js').then(({ worst }) => worst([
            ['udp', { a: 'in', b: 'unknown', c: 'drained', d: 'disabled' }],
            ['tcp', { a: 'unknown', b: 'out', c: 'kept', d: 'in' }],
        ].map(([protocol, states]) => ({ family: 'ipv4', protocol,
            servers: Object.entries(states).map(([server, state]) => ({ server, state })) })))
            .map(({ name, state }) => `${name} ${state}`).join())",
    )?;
    ensure!(
        worst == json!("b out,c kept,d disabled,a unknown"),
        "{worst}"
    );
    director.terminate(PATIENCE)?;
    browser.wait_until(
        &format!("{link}.startsWith('no answer from the director since ')"),
        Duration::from_secs(10),
    )?;
    // What was known stays readable.
    let role = browser.evaluate(ROLE)?;
    ensure!(role == json!("active"), "{role}");
    let director = start_director(&hosts.ds1, &configuration())?;
    browser.wait_until(&format!("{link} === 'live'"), PATIENCE)?;
    // One that hung is asked again after as long as it has kept the page waiting.
    let worker = Pid::from_raw(worker(&director)?);
    kill(worker, Signal::SIGSTOP)?;
    browser.wait_until(&format!("{link}.startsWith('no answer')"), PATIENCE)?;
    kill(worker, Signal::SIGCONT)?;
    let seen = browser.wait_until(&format!("{link} === 'live'"), PATIENCE)?;
    figures::within(
        "a director that hung is on the page after",
        seen,
        HUNG + SEEN,
    )
}

/// Each answer has the headers of a page that shows nothing from elsewhere, nobody can write, and clients
/// that misbehave cost little.
fn gives_nothing_to_strangers(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    // One that stands still for a third of a second keeps its VIP.
    let director = start_director(&hosts.ds1, &calm(&configuration()))?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    const JSON: &str = "application/json";
    const REFUSED: &str = "only GET and HEAD";
    for (request, status, content_type, content) in [
        ("GET /", "200", "text/html", "<!doctype html>"),
        ("GET /?anything", "200", "text/html", "<!doctype html>"),
        ("HEAD /", "200", "text/html", ""),
        ("GET /page.js", "200", "text/javascript", "keepAsking"),
        ("GET /page.css", "200", "text/css", "prefers-color-scheme"),
        ("GET /api/status", "200", JSON, "\"node\":\"ds1\""),
        ("GET /api/events", "200", JSON, "["),
        ("GET /api/history", "200", JSON, "\"step_seconds\":10"),
        ("GET /metrics", "200", "text/plain", "director_build_info"),
        ("POST /", "405", "text/plain", REFUSED),
        ("PUT /api/status", "405", "text/plain", REFUSED),
        ("OPTIONS /api/status", "405", "text/plain", REFUSED),
        ("GET /index.html", "404", "text/plain", "try"),
        ("GET /../Cargo.toml", "404", "text/plain", "try"),
        ("GET /mod.rs", "404", "text/plain", "try"),
    ] {
        let answer = http::exchange(&hosts.client, OUTSIDE, http::request(request))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {head}"
        );
        ensure!(body.contains(content), "{request}: {body}");
        ensure!(!request.starts_with("HEAD") || body.is_empty(), "{body}");
        for header in [
            &format!("content-type: {content_type}")[..],
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            ensure!(
                head.contains(&format!("\r\n{header}")),
                "no {header}: {head}"
            );
        }
        ensure!(
            !head.contains("unsafe") && head.contains("frame-ancestors 'none'"),
            "{head}"
        );
        ensure!(!head.contains("access-control"), "{head}");
    }
    crowds_cost_little(&hosts, &director)
}

/// More than one client's share ask as fast as they can, and as many of another never read what they asked for.
fn crowds_cost_little(hosts: &DnsPair, director: &Process) -> Result<()> {
    let worker = worker(director)?;
    let before = resident(worker)?;
    let silent = hosts.rs1.within(|| {
        let connect = |_| -> std::io::Result<TcpStream> {
            let mut stream = TcpStream::connect(OUTSIDE)?;
            // Beyond its share nobody listens any more.
            let _ = stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n");
            Ok(stream)
        };
        (0..16).map(connect).collect::<std::io::Result<Vec<_>>>()
    })?;
    let crowd: Vec<_> = (0..12)
        .map(|_| {
            let host = hosts.client.clone();
            hosts.client.thread(move || {
                let began = Instant::now();
                let mut answers = 0;
                while began.elapsed() < Duration::from_secs(5) {
                    let request = http::request("GET /api/status");
                    let answer = http::exchange_here(OUTSIDE, &request, PATIENCE);
                    answers += usize::from(answer.is_ok_and(|text| text.starts_with(FOUND)));
                }
                drop(host);
                answers
            })
        })
        .collect();
    // Meanwhile a scrape from elsewhere is answered, and adverts go out: the VIP stays.
    let mut slowest = Duration::ZERO;
    while crowd.iter().any(|one| !one.is_finished()) {
        let began = Instant::now();
        let answer = http::exchange(&hosts.rs2, OUTSIDE, http::request("GET /metrics"))?;
        ensure!(answer.starts_with(FOUND), "a scrape got {answer:?}");
        slowest = slowest.max(began.elapsed());
        ensure!(hosts.ds1.holds(VIP), "the VIP is gone");
    }
    let mut answers = 0;
    for one in crowd {
        answers += one
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    ensure!(answers > 100, "{answers} answers only");
    let grown = resident(worker)?.saturating_sub(before);
    println!(
        "measured: {answers} answers to 12 clients in 5 s, the slowest scrape beside them took {slowest:.1?}"
    );
    figures::note(
        "memory of the director grew by",
        grown as f64,
        "kB",
        Some(16_384.0),
    );
    ensure!(grown <= 16_384, "{grown} kB more");
    ensure!(
        slowest < Duration::from_secs(10),
        "a scrape took {slowest:?}"
    );
    drop(silent);
    Ok(())
}

const FOUND: &str = "HTTP/1.1 200 ";
const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 56, 181)), 9712);
