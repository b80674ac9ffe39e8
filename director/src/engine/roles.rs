//! Who holds the addresses, as far as the VRRP thread has told.

use std::collections::BTreeMap;

use lvs_proto::vrrp::Ownership;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::config::Configuration;
use crate::vrrp::Ownerships;

/// How the instances stand with their addresses.
#[derive(Debug)]
pub(super) struct Roles {
    inbox: UnboundedReceiver<Ownerships>,
    /// `None` before the first word.
    known: Option<Ownerships>,
    /// How often each instance has taken its addresses.
    terms: Terms,
}

/// How often each instance has taken its addresses, by name.
pub type Terms = BTreeMap<String, u64>;

impl Roles {
    /// Knows nothing yet, and hears from `inbox`.
    pub(super) fn new(inbox: UnboundedReceiver<Ownerships>) -> Self {
        Self {
            inbox,
            known: None,
            terms: Terms::new(),
        }
    }

    /// Waits for the next word, and takes the last one there is. May be dropped at any time.
    ///
    /// Never returns once the VRRP thread has ended.
    pub(super) async fn changed(&mut self) {
        match self.inbox.recv().await {
            Some(word) => {
                self.take(word);
                self.catch_up();
            }
            None => std::future::pending().await,
        }
    }

    /// Takes the last word there is.
    pub(super) fn catch_up(&mut self) {
        while let Ok(word) = self.inbox.try_recv() {
            self.take(word);
        }
    }

    fn take(&mut self, word: Ownerships) {
        for (name, ownership) in &word {
            let before = self.known.as_ref().and_then(|known| known.get(name));
            if *ownership == Ownership::Held && before != Some(&Ownership::Held) {
                *self.terms.entry(name.clone()).or_default() += 1;
            }
        }
        self.known = Some(word);
    }

    /// How often each instance has taken its addresses: who has lost and taken them again between two
    /// looks has not held them all the time.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How the instances stand; `None` before the first word.
    pub(super) fn known(&self) -> Option<&Ownerships> {
        self.known.as_ref()
    }

    /// How the instances of `to` would stand right after a change from `from`: those that go on keep
    /// their state, whatever their names, and new ones have nothing yet.
    pub(super) fn after(&self, from: &Configuration, to: &Configuration) -> Ownerships {
        let none = Ownerships::new();
        let known = self.known.as_ref().unwrap_or(&none);
        let instances = to.instances.iter().map(|next| {
            let mut previous = from.instances.iter();
            let ownership = previous
                .find(|previous| previous.identity() == next.identity())
                .and_then(|previous| known.get(&previous.name).copied());
            (next.name.clone(), ownership.unwrap_or(Ownership::Absent))
        });
        instances.collect()
    }
}
