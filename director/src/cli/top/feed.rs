//! Asks the director, again and again, and has it carry out orders.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::screen::Order;
use crate::control::{Answer, AskError, HandReport, Request, Status, ask};
use crate::events::Event;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The director answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// It waits for the kernel and the disk.
const ORDER_PATIENCE: Duration = Duration::from_secs(20);

/// More than any screen shows.
const EVENTS: usize = 30;

/// How everything is at one time.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) status: Status,
    /// The last ones, the newest at the end.
    pub(super) events: Vec<Event>,
    pub(super) at: Instant,
}

/// What comes of asking.
#[derive(Debug)]
pub(super) enum News {
    /// How everything is, or why there is no answer.
    Picture(Result<Box<Picture>, String>),
    /// What became of an order, or why nothing did.
    Done(Result<HandReport, String>),
}

/// Asks once.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) fn look(directory: &Path) -> Result<Box<Picture>, String> {
    let told = |request| ask(directory, &request, PATIENCE);
    let status = match told(Request::Status) {
        Ok(Answer::Status(status)) => status,
        other => return Err(refusal(other)),
    };
    let recent = Request::Events {
        last: Some(EVENTS),
        after: None,
    };
    match told(recent) {
        Ok(Answer::Events(events)) => Ok(Box::new(Picture {
            status,
            events,
            at: Instant::now(),
        })),
        other => Err(refusal(other)),
    }
}

/// Looks at every pause, and after each order, until `tell` says that nobody listens.
pub(super) fn follow(directory: &Path, orders: &Receiver<Order>, tell: impl Fn(News) -> bool) {
    loop {
        match orders.recv_timeout(PAUSE) {
            Ok(order) => {
                if !tell(News::Done(carry_out(directory, &order))) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !tell(News::Picture(look(directory))) {
            return;
        }
    }
}

fn carry_out(directory: &Path, order: &Order) -> Result<HandReport, String> {
    let request = Request::Hand {
        servers: order.servers.clone(),
        state: order.state,
        for_seconds: None,
        reason: None,
    };
    match ask(directory, &request, ORDER_PATIENCE) {
        Ok(Answer::Hand(report)) => Ok(report),
        other => Err(refusal(other)),
    }
}

fn refusal(answer: Result<Answer, AskError>) -> String {
    match answer {
        Ok(Answer::Error(error)) => error,
        Ok(_) => "the director answers another question".to_owned(),
        Err(error) => error.to_string(),
    }
}
