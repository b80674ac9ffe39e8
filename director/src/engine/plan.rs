//! What another configuration would change: the differences beside the table, and the table's plan.

use tokio::sync::oneshot;

use super::desired::Unjudged;
use crate::control::{self, Change};
use crate::dataplane;

/// A plan that waits for the part of the table's thread.
#[derive(Debug)]
pub struct PendingPlan {
    pub(super) beside: Vec<Change>,
    pub(super) unjudged: Unjudged,
    pub(super) table: oneshot::Receiver<Result<dataplane::Plan, String>>,
}

/// A whole plan.
#[derive(Debug)]
pub struct Plan {
    /// What changes beside the table.
    pub beside: Vec<Change>,
    /// What changes in the table, and in words.
    pub table: Vec<(dataplane::Change, Change)>,
    /// What can't be as it is asked for.
    pub notes: Vec<String>,
}

impl PendingPlan {
    /// Nothing changes, and nothing is waited for.
    pub(super) fn nothing() -> Self {
        let (answer, table) = oneshot::channel();
        // The other end is here.
        let _ = answer.send(Ok(dataplane::Plan::default()));
        Self {
            beside: Vec::new(),
            unjudged: Unjudged::new(),
            table,
        }
    }

    /// Waits for the rest.
    ///
    /// # Errors
    /// When the table can't be read, in words for people.
    pub async fn complete(mut self) -> Result<Plan, String> {
        self.completed().await
    }

    /// As [`Self::complete`], and leaves nothing. May be dropped before it ends.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub async fn completed(&mut self) -> Result<Plan, String> {
        let table = (&mut self.table).await.unwrap_or_else(|_| Err(ended()));
        whole(std::mem::take(&mut self.beside), &self.unjudged, table)
    }

    /// The part that isn't waited for.
    pub fn into_beside(self) -> Vec<Change> {
        self.beside
    }
}

fn whole(
    beside: Vec<Change>,
    unjudged: &Unjudged,
    table: Result<dataplane::Plan, String>,
) -> Result<Plan, String> {
    let table = table?;
    let complaints = table.complaints.iter().map(ToString::to_string);
    let notes = complaints
        .chain(table.notes.iter().map(ToString::to_string))
        .collect();
    let changes = table.changes.into_iter().map(|change| {
        let words = in_words(&change, unjudged);
        (change, words)
    });
    Ok(Plan {
        beside,
        table: changes.collect(),
        notes,
    })
}

fn ended() -> String {
    "the table's thread has ended".to_owned()
}

impl From<Plan> for control::Plan {
    fn from(plan: Plan) -> Self {
        let table = plan.table.into_iter().map(|(_, words)| words);
        Self {
            changes: plan.beside.into_iter().chain(table).collect(),
            notes: plan.notes,
        }
    }
}

/// A change of the table, with a mark where it comes only once a real server has been judged.
pub fn in_words(change: &dataplane::Change, unjudged: &Unjudged) -> Change {
    let once_its_check_passes = match change {
        dataplane::Change::Service {
            key,
            action: dataplane::Action::AddDestination { to },
            ..
        } => unjudged.contains(&(*key, to.key)),
        _ => false,
    };
    let mut told = Change::from(change);
    if once_its_check_passes {
        told.text += " (once its check passes)";
    }
    Change {
        once_its_check_passes,
        ..told
    }
}
