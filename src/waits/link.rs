//! Links: what a task that depends on others knows of one of them. A row of state `l` whose `name` is the dependent's id.
//!
//! While `waits_for` names the other task, how that ended isn't noted yet: the task is unfinished, or its result says it.
//! Whoever takes the result away, or ends the task without leaving one, notes it first: then `waits_for` is null and the
//! options say `ended`. So a dependent never asks what nobody keeps any more. A link whose task is neither unfinished nor
//! kept, and that says nothing, is of a task whose rows somebody has deleted by hand.
//!
//! The link to a task that has not ended well stays open when the dependent was cancelled for it: by it tq_requeue finds
//! whom to bring back. It goes with either one's result.

use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::postgres::{clock, row_lock, transaction};
use crate::pure::choice::{Said, Settled};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::task::options::Options;
use crate::tenant::columns::{Results, Tasks};

/// A link to be written.
pub struct Link {
    pub of: Id,
    /// The task leaves no result when it ends well: that there is none says so.
    pub unsaved: bool,
}

impl From<Ended> for Settled {
    fn from(ended: Ended) -> Settled {
        match ended {
            Ended::Done => Settled::Done,
            Ended::Cancelled => Settled::Cancelled,
            Ended::Expired => Settled::Expired,
            Ended::Quarantined => Settled::Quarantined,
            Ended::Failed | Ended::Unknown => Settled::Failed,
        }
    }
}

fn link_id(dependent: Id, of: Id) -> Id {
    dependent.derived(&of.bytes())
}

pub fn find(tasks: &Table<Tasks>, dependent: Id, of: Id) -> Option<Row<Tasks>> {
    tasks.find(Tasks::ID.equals(link_id(dependent, of))).filter(|row| row.letter(Tasks::STATE) == Stored::Link)
}

/// How the task has ended, where it is noted.
pub fn ended(link: &Row<Tasks>) -> Option<Settled> {
    // A word that is none of ours says nothing good.
    Options::of(link).ended.map(|said| said.choice().unwrap_or(Settled::Failed))
}

/// Whether there being no result of the task says that it has ended well.
pub fn is_unsaved(link: &Row<Tasks>) -> bool {
    Options::of(link).save == Some(false)
}

/// Whose link it is.
pub fn dependent_of(link: &Row<Tasks>) -> Id {
    link.get(Tasks::NAME).and_then(Id::parse).unwrap_or_default()
}

/// Writes a link; `handler`: the dependent's. `ended`: it is noted already how that one has.
pub fn write(tasks: &Table<Tasks>, dependent: Id, handler: &str, link: &Link, ended: Option<Settled>) {
    let now = clock::now();
    let name = dependent.to_string();
    let options = Options { save: link.unsaved.then_some(false), ended: ended.map(Said::Known), ..Options::default() }.column();
    tasks.insert(&[
        Tasks::ID.to(link_id(dependent, link.of)),
        Tasks::HANDLER.to(handler),
        Tasks::STATE.to(Stored::Link),
        Tasks::PRIORITY.to(0),
        Tasks::ATTEMPTS.to(0),
        Tasks::CRASHES.to(0),
        Tasks::CREATED_AT.to(now),
        Tasks::RUN_AT.to(now),
        Tasks::NAME.to(name.as_str()),
        Tasks::OPTIONS.to(options.as_ref()),
        Tasks::WAITS_FOR.to(ended.is_none().then_some(link.of)),
    ]);
}

/// A link of this dependent if there is none yet.
pub fn write_if_missing(tasks: &Table<Tasks>, row: &Row<Tasks>, of: Id, ended: Option<Settled>) {
    let dependent = row.get(Tasks::ID).unwrap_or_default();
    if transaction::with_latest_snapshot(|| find(tasks, dependent, of)).is_none() {
        write(tasks, dependent, row.get(Tasks::HANDLER).unwrap_or(""), &Link { of, unsaved: false }, ended);
    }
}

/// Notes how the task has ended that the link stands for.
pub fn settle(tasks: &Table<Tasks>, link: &Row<Tasks>, ended: Settled) {
    let options = Options { ended: Some(Said::Known(ended)), ..Options::of(link) }.column();
    // Lost: the dependent's end has just taken it away.
    let _: Write = tasks.update(link, &[Tasks::OPTIONS.to(options.as_ref()), Tasks::WAITS_FOR.null()]);
}

/// Links of this dependent.
pub fn links_of(tasks: &Table<Tasks>, dependent: Id) -> Vec<Row<Tasks>> {
    let name = dependent.to_string();
    transaction::with_latest_snapshot(|| {
        tasks.scan(&Tasks::BY_NAME, &[Tasks::NAME.equals(name.as_str())]).filter(|row| row.letter(Tasks::STATE) == Stored::Link).collect()
    })
}

/// The dependent is over. `kept`, for one that was cancelled because of one of those: the results by which the links stay
/// open that say whom it is to be found again by. One that has ended well brings nobody back.
pub fn forget(tasks: &Table<Tasks>, dependent: Id, kept: Option<&Table<Results>>) {
    for link in links_of(tasks, dependent) {
        let mut present = Some(link);
        while let Some(link) = present {
            let stays = link.get(Tasks::WAITS_FOR).zip(kept).is_some_and(|(of, results)| !has_ended_well(results, of));
            // What stays is locked: an end that would note itself in it comes after this one, and sees that nobody reads it.
            let is_it = if stays { row_lock::await_lock(tasks, &link) } else { tasks.delete(&link) == Write::Done };
            // Otherwise somebody has just taken it away, or has noted in it how that one ended.
            present = link.get(Tasks::ID).filter(|_| !is_it).and_then(|id| again(tasks, id));
        }
    }
}

fn again(tasks: &Table<Tasks>, id: Id) -> Option<Row<Tasks>> {
    transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id)))
}

/// Takes a link away, as it is by now.
pub fn drop(tasks: &Table<Tasks>, link: &Row<Tasks>) {
    if let Some(link) = link.get(Tasks::ID).and_then(|id| again(tasks, id)) {
        // Lost: somebody else has just done it.
        let _: Write = tasks.delete(&link);
    }
}

fn has_ended_well(results: &Table<Results>, id: Id) -> bool {
    let result = transaction::with_latest_snapshot(|| results.find(Results::ID.equals(id)));
    result.is_some_and(|row| row.letter(Results::STATE) == Ended::Done)
}
