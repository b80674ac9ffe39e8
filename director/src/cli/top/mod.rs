//! `director top`: how the running director is, on a screen that follows it, and the operator's hand on
//! real servers by keys.
//!
//! [`feed`] asks the director, [`screen`] knows what is shown and what a key means, [`draw`] paints it;
//! here they meet. Only [`feed`] waits for the director: keys work while it hangs or is away.

mod draw;
mod feed;
mod screen;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};

use self::feed::News;
use self::screen::{Act, Screen};
use super::{Target, fail};

/// Shown after the options.
pub(super) const HELP: &str = "\
Keys:
  up, down, k, j       move between services and servers; Page Up, Page Down, Home and End too
  d                    drain the server, or all servers of the service
  x                    disable it
  e                    enable it again
  ?                    shows the keys
  q, Escape, Control-C  ends

Examples:
  director top

Exit status:
  0   it was told to end
  1   the director can't be reached, or there is no terminal; the message says which
  64  wrong command line";

/// The ages on the screen move on at this pace without news.
const TICK: Duration = Duration::from_secs(1);

/// What the shell takes from a program that panicked.
const EXIT_PANIC: i32 = 101;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
}

/// What can happen.
enum Heard {
    Key(KeyEvent),
    Resized,
    News(News),
    /// Somebody ends us.
    Signal,
    /// The terminal is gone.
    NoInput(io::Error),
}

/// Shows the director until a key ends it. A director that goes away is waited for, one that isn't there
/// to begin with is an error: ends with 1 then.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return fail("there is no terminal; `director status` prints how everything is");
    }
    let directory = &arguments.target.runtime_directory;
    let picture = match feed::look(directory) {
        Ok(picture) => picture,
        Err(reason) => return fail(reason),
    };
    let (heard, hears) = channel();
    let orders = match listen(directory, heard) {
        Ok(orders) => orders,
        Err(error) => return fail(format_args!("cannot listen for keys: {error}")),
    };
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => return fail(format_args!("cannot use the terminal: {error}")),
    };
    end_with_any_panic();
    let outcome = show(&mut terminal, Screen::new(picture), &hears, &orders);
    ratatui::restore();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("the terminal failed: {error}")),
    }
}

/// Starts all who tell us something; returns where orders for the director go.
fn listen(directory: &std::path::Path, heard: Sender<Heard>) -> io::Result<Sender<screen::Order>> {
    // Before any thread is there, so that all of them leave these to the one that waits.
    let ending = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]);
    ending.thread_block()?;
    let signals = heard.clone();
    let start = |name: &str| thread::Builder::new().name(name.to_owned());
    start("signals").spawn(move || {
        // The receiver is gone when we end anyway.
        if ending.wait().is_ok() {
            let _ = signals.send(Heard::Signal);
        }
    })?;
    let (orders, wanted) = channel();
    let news = heard.clone();
    let directory = directory.to_owned();
    start("feed").spawn(move || {
        feed::follow(&directory, &wanted, |it| news.send(Heard::News(it)).is_ok());
    })?;
    start("keys").spawn(move || {
        loop {
            let told = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Heard::Key(key),
                Ok(Event::Resize(..)) => Heard::Resized,
                Ok(_) => continue,
                Err(error) => Heard::NoInput(error),
            };
            let over = matches!(told, Heard::NoInput(_));
            if heard.send(told).is_err() || over {
                return;
            }
        }
    })?;
    Ok(orders)
}

/// A thread that is gone would leave a screen that looks alive. The terminal is restored by then.
fn end_with_any_panic() {
    let restores = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restores(panic);
        std::process::exit(EXIT_PANIC);
    }));
}

fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    hears: &Receiver<Heard>,
    orders: &Sender<screen::Order>,
) -> io::Result<()> {
    loop {
        let now = draw::Now {
            clock: SystemTime::now().into(),
            instant: Instant::now(),
        };
        terminal.draw(|frame| draw::draw(frame, &mut screen, &now))?;
        match hears.recv_timeout(TICK) {
            Ok(Heard::Key(key)) => match screen.key(key) {
                Some(Act::Quit) => return Ok(()),
                // The feed ends with us, not before.
                Some(Act::Order(order)) => drop(orders.send(order)),
                None => {}
            },
            Ok(Heard::News(news)) => screen.hear(news),
            Ok(Heard::Resized) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Heard::Signal) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Heard::NoInput(error)) => return Err(error),
        }
    }
}
