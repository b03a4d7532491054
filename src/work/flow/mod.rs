//! Flows: chains, groups and iterations. A flow is a task: a row in state `w` with its members'
//! number in `waits`, final when all of its members are. A member may be a flow itself, to any depth.
//!
//! Members' ids follow from the flow's (`options::Flow::member`), in input order: so the flow's result is
//! gathered, and its members are cancelled, without an index of their own. The end of each member
//! counts the flow down in the same transaction (waits/members.rs); the one that comes to zero ends it, and so
//! counts down the flow that it is a member of.
//!
//! A step of a chain depends on the one before. Where it is a flow its first members do, those of flows among them in
//! their place: the others wait for these, or don't wait. One without members waits itself, and is ended by whoever picks it;
//! where nothing comes before, at once.

pub mod again;
pub mod spec;
pub mod whole;

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{memory, transaction};
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::pure::time::At;
use crate::shared::wake;
use crate::task::insert;
use crate::task::new::NewTask;
use crate::task::options::{Flow, Options};
use crate::task::queue::Queue;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::unique;
use crate::work::flow::spec::{Member, Spec};
use crate::work::{complete, own_session};

/// Makes the flow and all of its members; returns its id.
pub fn create(queue: &Queue, spec: Spec) -> Result<Id> {
    spec.check()?;
    let mut id = spec.flow.id.unwrap_or_else(Id::fresh);
    if spec.flow.id.is_some() && queue.known(id)? {
        return Ok(id);
    }
    if spec.flow.unique_key.is_some() {
        match unique::claim(queue, &spec.flow)? {
            unique::Claim::Free => {}
            unique::Claim::Theirs(theirs) => return Ok(theirs),
            unique::Claim::Replaced(theirs) => id = theirs,
        }
    }
    // The members of an earlier flow of this id may be kept.
    let is_chosen = spec.flow.id.is_some() || spec.flow.unique_key.is_some();
    let kept = is_chosen.then(|| queue.tenant.open(queue.tenant.result, Access::Read)).transpose()?;
    let sync = spec.flow.sync;
    let mut making = Making { queue, root: id, kept, sync, levels: Vec::new(), run: Vec::new(), empty: Vec::new() };
    making.enter(Level {
        count: spec.count(),
        next: 0,
        passes: spec.pass_result.unwrap_or(false),
        goes_on: spec.flow.allow_failure == Some(true),
        spec,
        id,
        parent: None,
        before: Before::default(),
    })?;
    let scratch = memory::Scratch::new();
    while !making.levels.is_empty() {
        if let Err(error) = scratch.run(|| making.next()) {
            return Err(making.placed(error));
        }
    }
    let Making { run, empty, .. } = making;
    for id in empty {
        complete::end_empty_flow(&queue.tenant, &queue.table, id).map_err(Error::from)?;
    }
    if sync {
        own_session::run_members(queue, run.into_iter())?;
    }
    Ok(id)
}

/// What comes before a member.
#[derive(Clone, Copy, Default)]
struct Before {
    /// It waits for this step.
    step: Option<Id>,
    /// However that ends.
    however: bool,
    /// And gets the result of this one.
    passed: Option<Id>,
}

/// A flow that is being made.
struct Level<'a> {
    spec: Spec<'a>,
    id: Id,
    parent: Option<Id>,
    count: usize,
    /// The member that is made next.
    next: usize,
    /// Each step gets the result of the one before.
    passes: bool,
    /// A failure in it is no failure of it, or of a flow that it is in.
    goes_on: bool,
    /// What comes before its first members.
    before: Before,
}

impl Level<'_> {
    fn flow(&self) -> Flow {
        Flow { members: self.count as u64, chunked: self.spec.is_chunked(), inner: self.parent.is_some() }
    }

    /// Of the member that is being made.
    fn place(&self) -> String {
        format!("member {} of {}", self.next, self.count)
    }

    /// What comes before its nth member.
    fn before(&self, nth: usize) -> Before {
        if nth == 0 || !self.spec.is_chain() {
            return self.before;
        }
        let step = self.flow().member(self.id, nth - 1);
        Before { step: Some(step), however: self.spec.flow.allow_failure == Some(true), passed: self.passes.then_some(step) }
    }
}

/// Flows are made member by member, with a list of those that are begun in place of a call for each level.
struct Making<'a, 'q> {
    queue: &'q Queue,
    root: Id,
    /// Where members of an earlier flow of the same id would be.
    kept: Option<Table<Results>>,
    sync: bool,
    /// Each in the one before it.
    levels: Vec<Level<'a>>,
    /// What runs at once, in its order, and whether its failure is recorded with it.
    run: Vec<(Id, bool)>,
    /// Flows without members that wait for nothing.
    empty: Vec<Id>,
}

impl<'a> Making<'a, '_> {
    /// Makes the next member of the innermost flow; after its last, the flow's own row.
    fn next(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        if level.next == level.count {
            return match self.levels.pop() {
                Some(level) => self.insert(level),
                None => Ok(()),
            };
        }
        let nth = level.next;
        level.next += 1;
        let (id, before) = (level.flow().member(level.id, nth), level.before(nth));
        let (flow, passes, goes_on) = (level.id, level.passes, level.goes_on);
        if let Some(kept) = &self.kept
            && transaction::with_latest_snapshot(|| kept.find(Results::ID.equals(id))).is_some()
        {
            return Err(Error::new(SqlState::UNIQUE_VIOLATION, format!("an earlier flow had the id {}", self.root))
                .detail("The result of this member is kept.")
                .hint("Delete its members' results, or take another id."));
        }
        match level.spec.member(nth)? {
            Member::Task(new) => {
                self.run.extend(self.sync.then_some((id, goes_on)));
                self.add(new, id, flow, before)
            }
            Member::Flow(spec) => {
                spec.check()?;
                self.queue.check_room()?;
                if spec.flow.unique_key.is_some() {
                    match unique::claim(self.queue, &spec.flow)? {
                        unique::Claim::Free => {}
                        unique::Claim::Theirs(theirs) | unique::Claim::Replaced(theirs) => return Err(key_is_taken(theirs)),
                    }
                }
                self.enter(Level {
                    count: spec.count(),
                    next: 0,
                    passes: spec.pass_result.unwrap_or(passes),
                    goes_on: goes_on || spec.flow.allow_failure == Some(true),
                    spec,
                    id,
                    parent: Some(flow),
                    before,
                })
            }
        }
    }

    fn enter(&mut self, level: Level<'a>) -> Result<()> {
        let flow = &level.spec.flow;
        for hook in [&flow.on_success, &flow.on_failure, &flow.hook].into_iter().flatten() {
            let hook = crate::handler::require(&self.queue.tenant, hook)?;
            self.queue.check_superuser(&hook)?;
        }
        self.levels.push(level);
        Ok(())
    }

    /// A member that is a task.
    fn add(&self, mut new: NewTask, id: Id, flow: Id, before: Before) -> Result<()> {
        if self.sync {
            own_session::check_sync(self.queue, &new)?;
        }
        new.id = Some(id);
        new.parent = Some(flow);
        if let Some(step) = before.step {
            new.depends_on = vec![step];
            new.waits_for = Some(step);
            new.delay_after = new.delay.take();
            new.allow_failure = Some(before.however);
            new.pass = before.passed;
        }
        match crate::work::enqueue::add(self.queue, &new)? {
            made if made == id => Ok(()),
            // The flow waits for a task of its own, under an id of its own.
            theirs => Err(key_is_taken(theirs)),
        }
    }

    /// The row of a flow whose members are there.
    fn insert(&mut self, level: Level) -> Result<()> {
        let Making { queue, .. } = *self;
        let flow = &level.spec.flow;
        let is_empty = level.count == 0;
        // Members wait in its stead, if there are any.
        let step = level.before.step.filter(|_| is_empty);
        let own = Options { flow: Some(level.flow()), ..flow.options() };
        let options = match step {
            Some(step) => Options { depends: vec![step], allow_failure: level.before.however, ..own },
            None => own,
        };
        let options = options.column();
        let meta = flow.meta.clone().map_or_else(crate::task::new::default_meta, |meta| Ok(Some(meta)))?.map(Jsonb::from_value);
        let now = insert::moment();
        queue.table.insert(&[
            Tasks::ID.to(level.id),
            Tasks::HANDLER.to(level.spec.kind),
            Tasks::STATE.to(Stored::Waiting),
            Tasks::PRIORITY.to(0),
            Tasks::ATTEMPTS.to(0),
            Tasks::CRASHES.to(0),
            Tasks::CREATED_AT.to(now),
            Tasks::RUN_AT.to(now),
            Tasks::NAME.to(flow.name.as_deref()),
            Tasks::GROUP_ID.to(flow.group_id.as_deref()),
            Tasks::UNIQUE_KEY.to(flow.unique_key.as_deref()),
            Tasks::PARENT_ID.to(level.parent),
            Tasks::WAITS.to(level.count as i32),
            Tasks::WAITS_FOR.to(step),
            Tasks::ENQUEUED_BY.to(queue.caller.name.as_str()),
            Tasks::BY_SUPERUSER.to(queue.caller.superuser),
            Tasks::OPTIONS.to(options.as_ref()),
            Tasks::META.to(meta.as_ref()),
        ]);
        if let Some(entry) = queue.tenant.entry(queue.tenant.owner)? {
            wake::added(entry, At::NEVER, 0);
        }
        match step {
            None if is_empty => self.empty.push(level.id),
            Some(_) if self.sync => self.run.push((level.id, true)),
            _ => {}
        }
        Ok(())
    }

    /// With the member in whose making it was found, which may be one of a member.
    fn placed(&self, error: Error) -> Error {
        const TOLD: usize = 3;
        let begun: Vec<&Level> = self.levels.iter().filter(|level| level.next > 0).collect();
        let Some((last, outer)) = begun.split_last() else { return error };
        let mut place: Vec<String> = outer.iter().take(TOLD).map(|level| level.place()).collect();
        if outer.len() > TOLD {
            place.push("…".into());
        }
        place.push(last.place());
        let place = place.join(", in it ");
        let detail = error.detail.clone().map_or(String::new(), |detail| format!(" {detail}"));
        error.detail(format!("M{}.{detail}", &place[1..]))
    }
}

fn key_is_taken(theirs: Id) -> Error {
    Error::new(SqlState::UNIQUE_VIOLATION, format!("unique_key is taken by task {}", theirs))
        .hint("on_conflict can't help a member of a flow: give the key to the flow, in task.")
}
