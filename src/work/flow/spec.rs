//! A flow as somebody has written it: what is its own, what its members inherit, and the members, which are tasks or flows.
//!
//! A member that is a flow is an object with its members under `group`, `chain` or `iter`; its other keys are what the
//! parameter `task` of tq_group and its kin takes. Members are read one at a time, where they lie: there may be a hundred
//! thousand of them, and as many levels as somebody likes.

use crate::postgres::error::{Error, Result};
use crate::postgres::part::Part;
use crate::postgres::types::{Documents, Jsonb};
use crate::pure::choice::{Named, choices};
use crate::task::new::{NewTask, task_object};
use crate::waits::members::{CHAIN, GROUP, ITERATION, MEMBERS};
use serde_json::{Map, Value as Json};

choices! {
    /// What becomes of a chain one of whose steps has failed.
    enum OnStepFailure {
        Stop = "stop",
        Continue = "continue",
    }
}

pub struct Spec<'a> {
    /// What stands in its column `handler`.
    pub kind: &'static str,
    /// What is said of the flow itself.
    pub flow: NewTask,
    /// What its members are unless they say otherwise.
    inherited: Map<String, Json>,
    members: Members<'a>,
    /// None: as it is around it.
    pub pass_result: Option<bool>,
}

enum Members<'a> {
    Written(Part<'a>, usize),
    Called { template: Box<NewTask>, items: Items<'a>, chunk: usize },
}

/// The arguments of an iteration.
pub enum Items<'a> {
    Given(Documents<'a>),
    Written(Part<'a>, usize),
}

pub enum Member<'a> {
    Task(NewTask),
    Flow(Spec<'a>),
}

/// Keys of a flow's members, in an object.
const MEMBERS_KEYS: [&str; 3] = ["group", "chain", "iter"];
const HOW_TO_WRITE: &str = "Write it as {\"handler\": \"…\", \"args\": {…}}; a member that is a flow as {\"group\": [ … ]}, {\"chain\": [ … ]} or {\"iter\": [ … ], \"handler\": \"…\"}.";

/// The object `task` of a flow: what is the flow's own, and what its members inherit.
fn flow_object(task: Option<&Json>) -> Result<(NewTask, Map<String, Json>)> {
    const OWN: [&str; 13] = [
        "id",
        "name",
        "group_id",
        "meta",
        "save",
        "result_ttl",
        "on_success",
        "on_failure",
        "hook",
        "allow_failure",
        "unique_key",
        "on_conflict",
        "sync",
    ];
    let mut own = Map::new();
    let mut inherited = Map::new();
    match task {
        None | Some(Json::Null) => {}
        Some(Json::Object(map)) => {
            for (key, value) in map {
                match key.as_str() {
                    "handler" | "args" | "unique_until" | "depends_on" | "depends_mode" => {
                        return Err(Error::invalid(format!("task key \"{key}\" makes no sense for a flow")).hint(
                            "Its members have handlers and arguments; what is to come first is a step of a chain, of which the flow is the next.",
                        ));
                    }
                    k if OWN.contains(&k) => own.insert(key.clone(), value.clone()),
                    _ => inherited.insert(key.clone(), value.clone()),
                };
            }
        }
        Some(_) => return Err(Error::invalid("task is not an object").hint("Pass {\"on_success\": \"…\"}.")),
    }
    Ok((task_object(&Json::Object(own))?, inherited))
}

fn array<'a>(part: Part<'a>, what: &str) -> Result<(Part<'a>, usize)> {
    let count = part
        .len()
        .ok_or_else(|| Error::invalid(format!("{what} is not an array")).hint("Pass [{\"handler\": \"…\", \"args\": {…}}, …]."))?;
    Ok((part, count))
}

impl<'a> Spec<'a> {
    pub fn group(tasks: Part<'a>, what: &str, task: Option<&Json>) -> Result<Spec<'a>> {
        let (flow, inherited) = flow_object(task)?;
        let (part, count) = array(tasks, what)?;
        Ok(Spec { kind: GROUP, flow, inherited, members: Members::Written(part, count), pass_result: None })
    }

    pub fn chain(
        steps: Part<'a>,
        what: &str,
        pass_result: Option<bool>,
        on_step_failure: Option<&str>,
        task: Option<&Json>,
    ) -> Result<Spec<'a>> {
        let (mut flow, inherited) = flow_object(task)?;
        match on_step_failure.map(|word| OnStepFailure::one_of("on_step_failure", word)).transpose()? {
            None | Some(OnStepFailure::Stop) => {}
            Some(OnStepFailure::Continue) => flow.allow_failure = Some(true),
        }
        let (part, count) = array(steps, what)?;
        Ok(Spec { kind: CHAIN, flow, inherited, members: Members::Written(part, count), pass_result })
    }

    pub fn iteration(handler: String, items: Items<'a>, chunk: i64, task: Option<&Json>) -> Result<Spec<'a>> {
        if chunk < 1 {
            return Err(Error::invalid(format!("chunk is {chunk}")).hint("Pass how many arguments one task works off, at least 1."));
        }
        let (flow, inherited) = flow_object(task)?;
        let chunk = chunk as usize;
        let template = Box::new(NewTask { handler, each: chunk > 1, ..task_object(&Json::Object(inherited.clone()))? });
        Ok(Spec { kind: ITERATION, flow, inherited, members: Members::Called { template, items, chunk }, pass_result: None })
    }

    /// How many members it has.
    pub fn count(&self) -> usize {
        match &self.members {
            Members::Written(_, count) => *count,
            Members::Called { items, chunk, .. } => items.count().div_ceil(*chunk),
        }
    }
    pub fn is_chunked(&self) -> bool {
        matches!(self.members, Members::Called { chunk: 2.., .. })
    }
    pub fn is_chain(&self) -> bool {
        self.kind == CHAIN
    }

    /// What can be said of it without looking at its members.
    pub fn check(&self) -> Result<()> {
        let count = self.count();
        if count > MEMBERS {
            return Err(Error::limit(format!("{count} members are too many for one flow"))
                .detail(format!("A flow has at most {MEMBERS} members."))
                .hint("Pass several arguments to each: tq_async_iter(…, chunk => 100)."));
        }
        if count == 0 {
            // Nobody else looks at them.
            task_object(&Json::Object(self.inherited.clone()))?;
        }
        self.flow.check()
    }

    pub fn member(&self, nth: usize) -> Result<Member<'a>> {
        match &self.members {
            Members::Called { template, items, chunk } => {
                let first = nth * chunk;
                let args = if *chunk > 1 { items.some(first..items.count().min(first + chunk))? } else { items.one(first)? };
                Ok(Member::Task(NewTask { args: Some(args), ..(**template).clone() }))
            }
            Members::Written(part, _) => self.written(part.at(nth), nth),
        }
    }

    /// The delay of a chain is its first step's.
    fn inherited_by(&self, nth: usize) -> impl Iterator<Item = (&String, &Json)> {
        let is_later = nth > 0 && self.is_chain();
        self.inherited.iter().filter(move |(key, _)| !is_later || *key != "delay")
    }

    fn written(&self, part: Part<'a>, nth: usize) -> Result<Member<'a>> {
        let is_given = |key: &&str| part.get(key).is_some_and(|members| !members.is_null());
        let kinds: Vec<_> = MEMBERS_KEYS.into_iter().filter(is_given).collect();
        if let Some(kind) = kinds.first() {
            if let Some(other) = kinds.get(1) {
                return Err(Error::invalid(format!("task keys \"{kind}\" and \"{other}\" exclude each other"))
                    .hint("A member that is a flow has its members under one of group, chain and iter."));
            }
            return self.inner(part, kind, nth).map(Member::Flow);
        }
        let mut object = match part.value() {
            // A handler's name alone is a task without arguments.
            Json::String(name) => Map::from_iter([("handler".to_string(), Json::String(name))]),
            Json::Object(map) => map,
            _ => return Err(Error::invalid("a task is not an object").hint(HOW_TO_WRITE)),
        };
        for (key, value) in self.inherited_by(nth) {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        refuse_what_the_flow_gives(&object)?;
        Ok(Member::Task(task_object(&Json::Object(object))?))
    }

    /// A member that is a flow.
    fn inner(&self, part: Part<'a>, kind: &str, nth: usize) -> Result<Spec<'a>> {
        let keys: &[&str] = match kind {
            "chain" => &["chain", "pass_result", "on_step_failure"],
            "iter" => &["iter", "handler", "chunk"],
            _ => &["group"],
        };
        let mut object = part.without(keys);
        object.retain(|key, value| !value.is_null() || !MEMBERS_KEYS.contains(&key.as_str()));
        refuse_what_the_flow_gives(&object)?;
        // What its members inherit from further out goes through it.
        for (key, value) in self.inherited_by(nth) {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let object = Json::Object(object);
        let said = |key: &str| part.get(key).map(|value| value.value()).filter(|value| !value.is_null());
        let wrong = |key: &str, expected: &str| Error::invalid(format!("task key \"{key}\" is not {expected}"));
        let text = |key: &str| match said(key) {
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key, "a text")),
            None => Ok(None),
        };
        let members = part.get(kind).ok_or_else(|| Error::state("its members are gone"))?;
        match kind {
            "chain" => {
                let pass_result =
                    said("pass_result").map(|value| value.as_bool().ok_or_else(|| wrong("pass_result", "a boolean"))).transpose()?;
                Spec::chain(members, kind, pass_result, text("on_step_failure")?.as_deref(), Some(&object))
            }
            "iter" => {
                let handler = text("handler")?.ok_or_else(|| Error::invalid("the iteration has no handler").hint(HOW_TO_WRITE))?;
                let chunk = said("chunk").map(|value| value.as_i64().ok_or_else(|| wrong("chunk", "an integer"))).transpose()?;
                let (part, count) = array(members, kind)?;
                Spec::iteration(handler, Items::Written(part, count), chunk.unwrap_or(1), Some(&object))
            }
            _ => Spec::group(members, kind, Some(&object)),
        }
    }
}

fn refuse_what_the_flow_gives(object: &Map<String, Json>) -> Result<()> {
    let Some(key) = ["id", "depends_on", "sync"].into_iter().find(|key| object.contains_key(*key)) else { return Ok(()) };
    Err(Error::invalid(format!("task key \"{key}\" is given by the flow")).hint(match key {
        "sync" => "Pass it in task: then all members run at once.",
        "depends_on" => "What is to come first is a step of a chain: {\"chain\": [ … ]}.",
        _ => "Members' ids follow from the flow's: they are found by tq_fetch of the flow, or by parent_id.",
    }))
}

impl Items<'_> {
    fn count(&self) -> usize {
        match self {
            Items::Given(items) => items.len(),
            Items::Written(_, count) => *count,
        }
    }
    fn one(&self, nth: usize) -> Result<Jsonb> {
        match self {
            Items::Given(items) => Ok(items.one(nth)),
            Items::Written(part, _) => part.at(nth).document(),
        }
    }
    fn some(&self, range: std::ops::Range<usize>) -> Result<Jsonb> {
        match self {
            Items::Given(items) => Ok(items.array(range)),
            Items::Written(part, _) => part.documents(range),
        }
    }
}
