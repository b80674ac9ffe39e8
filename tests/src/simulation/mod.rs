//! The simulation: virtual routers on a LAN that loses, delays, repeats and parts, on a clock that
//! jumps from one event to the next.
//!
//! A [`Scenario`] says which routers there are and what befalls them when; a seed makes one up
//! ([`Scenario::random`]). [`run`] plays it and looks after every event whether all that must hold
//! still does ([`Invariant`]). Adverts go over the LAN as bytes, through the machine's own encoder
//! and decoder. The same scenario gives the same [`Outcome`] on every machine.
//!
//! Called by the program `simulate` and by the tests below.

mod campaign;
mod generator;
mod invariants;
mod lan;
mod node;
mod random;
mod scenario;
mod shrink;
mod story;
mod table;
mod text;

pub use campaign::{Campaign, run_seeds};
pub use invariants::{Invariant, Violation};
pub use lan::{Outcome, run};
pub use random::Random;
pub use scenario::{
    CLIENT, Crash, Event, MOST_ROUTERS, Number, Pause, RouterEvent, RouterPlan, Scenario, Step,
    Trouble, Weather,
};
pub use shrink::shrink;
pub use story::Story;
pub use table::Table;

#[cfg(test)]
mod tests;
