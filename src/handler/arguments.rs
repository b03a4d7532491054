//! A task's arguments: one jsonb document into one value for each parameter.
//!
//! An object gives parameters by name, an array by position, anything else is the single
//! parameter; `f(jsonb)` gets the document as it is. Checked when a task is enqueued, as far as that runs
//! nobody's code, and again when it starts: the function may have been replaced in between.

use crate::handler::signature::{Param, Signature};
use crate::postgres::caught::Failure;
use crate::postgres::code::MayRunCode;
use crate::postgres::error::{Error, Result};
use crate::postgres::function::document::{self, Document, Item, Shape};
use crate::postgres::function::{Argument, Value, catalog};
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::pure::nearest::nearest;
use pgrx::pg_sys;

/// One value for each parameter of one function. The values live in the memory context that was
/// current at `bind`: call before it is reset.
pub struct Bound {
    pub(super) function: u32,
    pub(super) arguments: Vec<Argument>,
}

/// What a parameter will be made of.
#[derive(Clone, Copy)]
enum Source<'a> {
    Default,
    Whole,
    Item(Item<'a>),
}

/// Why arguments can't be handed over.
pub struct Unfit {
    pub error: Error,
    /// A value doesn't fit a type that isn't PostgreSQL's own: nobody may have looked at it before.
    pub of_foreign_type: bool,
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Unfit {
        Unfit { error, of_foreign_type: false }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Failure {
        unfit.error.into()
    }
}

/// Converts `args` to the parameters' types, all of them.
pub fn bind(sig: &Signature, args: Option<&Jsonb>, code: &MayRunCode) -> std::result::Result<Bound, Unfit> {
    let document = args.map(Document::of);
    let sources = assign(sig, document.as_ref())?;
    let mut arguments: Vec<Argument> = Vec::with_capacity(sources.len());
    for (i, source) in sources.iter().enumerate() {
        let type_oid = sig.params[i].type_oid;
        let value = convert(sig, i, source, document.as_ref(), Some(code))
            .map_err(|error| Unfit { error, of_foreign_type: !catalog::runs_nobodys_code(type_oid) })?;
        arguments.push(Argument { type_oid, value });
    }
    Ok(Bound { function: sig.oid, arguments })
}

/// Whether `args` fit. Types that aren't PostgreSQL's own, but for enums, bring code of their makers' (a domain's CHECK,
/// an input function): they are asked in the sandbox with leave, and else not at all: then what doesn't fit fails at its start.
pub fn check(sig: &Signature, args: Option<&Jsonb>, code: Option<&MayRunCode>) -> Result<()> {
    let document = args.map(Document::of);
    let sources = assign(sig, document.as_ref())?;
    let check = |i: usize, code: Option<&MayRunCode>| convert(sig, i, &sources[i], document.as_ref(), code).map(drop);
    let given = |i: &usize| !matches!(sources[*i], Source::Default);
    let (own, foreign): (Vec<usize>, Vec<usize>) =
        (0..sources.len()).filter(given).partition(|i| catalog::runs_nobodys_code(sig.params[*i].type_oid));
    own.into_iter().try_for_each(|i| check(i, None))?;
    match code {
        Some(code) if !foreign.is_empty() => {
            sandbox::as_owner(pg_sys::Oid::from(code.role()), || foreign.into_iter().try_for_each(|i| check(i, Some(code))))
        }
        _ => Ok(()),
    }
}

fn convert(sig: &Signature, i: usize, source: &Source, document: Option<&Document>, code: Option<&MayRunCode>) -> Result<Value> {
    let param = &sig.params[i];
    let name = param.name.as_deref().unwrap_or("?");
    let converted = match (source, document) {
        (Source::Item(item), _) => document::convert(item, name, param.type_oid, code),
        (Source::Whole, Some(document)) => document::convert_whole(document, name, param.type_oid, code),
        _ => return Ok(Value::Default),
    };
    match converted {
        Ok(Some(datum)) => Ok(Value::Datum(datum)),
        Ok(None) => Ok(Value::Null),
        Err(failure) => Err(unconvertible(sig, i, failure)),
    }
}

fn assign<'a>(sig: &Signature, document: Option<&Document<'a>>) -> Result<Vec<Source<'a>>> {
    let Some(document) = document else { return nothing(sig) };
    let single = match &sig.params[..] {
        [one] if !one.variadic => Some(one),
        _ => None,
    };
    if single.is_some_and(takes_document) {
        return Ok(vec![Source::Whole]);
    }
    match document.shape() {
        Shape::Object(keys) => by_name(sig, document, keys),
        Shape::Array(length) => by_position(sig, document, length),
        Shape::Scalar if single.is_some() => Ok(vec![Source::Item(document.whole())]),
        Shape::Scalar if sig.params.len() == 1 => by_position(sig, document, 1),
        // What clients make of "no arguments".
        Shape::Scalar if sig.params.is_empty() && document.is_null() => Ok(Vec::new()),
        Shape::Scalar => Err(Error::invalid(format!("{} does not take a single value", sig.identity))
            .detail(format!("The signature is {}.", sig.describe()))
            .hint(how_to_write(sig))),
    }
}

/// Whether the function has one parameter, which gets the document as it is.
pub fn takes_whole(sig: &Signature) -> bool {
    matches!(&sig.params[..], [one] if !one.variadic && takes_document(one))
}

/// jsonb, json and domains over them.
fn takes_document(param: &Param) -> bool {
    matches!(pg_sys::Oid::from(catalog::base_type(param.type_oid)), pg_sys::JSONBOID | pg_sys::JSONOID)
}

fn nothing<'a>(sig: &Signature) -> Result<Vec<Source<'a>>> {
    sig.params.iter().enumerate().map(|(i, _)| missing(sig, i)).collect()
}

fn by_name<'a>(sig: &Signature, document: &Document<'a>, keys: usize) -> Result<Vec<Source<'a>>> {
    let mut found = 0;
    let mut sources = Vec::with_capacity(sig.params.len());
    let mut absent = None;
    for (i, param) in sig.params.iter().enumerate() {
        match param.name.as_deref().and_then(|name| document.get(name)) {
            Some(item) => {
                found += 1;
                sources.push(Source::Item(item));
            }
            None => match missing(sig, i) {
                Ok(source) => sources.push(source),
                Err(error) => absent = absent.or(Some(error)),
            },
        }
    }
    // A key that was mistyped explains a parameter that is missing: it comes first.
    if found < keys {
        return Err(unknown(sig, document));
    }
    match absent {
        Some(error) => Err(error),
        None => Ok(sources),
    }
}

fn by_position<'a>(sig: &Signature, document: &Document<'a>, length: usize) -> Result<Vec<Source<'a>>> {
    let mut sources = Vec::with_capacity(sig.params.len());
    for (i, param) in sig.params.iter().enumerate() {
        let source = match document.at(i) {
            None => missing(sig, i)?,
            // The rest one by one, or, as SQL's VARIADIC has it, in one array.
            Some(item) if param.variadic && !(length == i + 1 && item.is_array()) => {
                Source::Item(document.rest(i).map_err(|f| unconvertible(sig, i, f))?)
            }
            Some(item) => Source::Item(item),
        };
        sources.push(source);
    }
    if length > sig.params.len() && !sig.params.last().is_some_and(|p| p.variadic) {
        return Err(Error::new(SqlState::TOO_MANY_ARGUMENTS, format!("too many arguments for {}", sig.identity))
            .detail(format!("{length} given. The signature is {}.", sig.describe()))
            .hint(how_to_write(sig)));
    }
    Ok(sources)
}

/// What a parameter gets that isn't given.
fn missing<'a>(sig: &Signature, i: usize) -> Result<Source<'a>> {
    let param = &sig.params[i];
    if param.has_default {
        return Ok(Source::Default);
    }
    if param.variadic {
        return document::no_elements().map(Source::Item).map_err(|f| unconvertible(sig, i, f));
    }
    Err(Error::invalid(format!("{} of {} is missing", called(sig, i), sig.identity))
        .detail(format!("The signature is {}.", sig.describe()))
        .hint(how_to_write(sig)))
}

fn unknown(sig: &Signature, document: &Document) -> Error {
    let names: Vec<&str> = sig.params.iter().filter_map(|p| p.name.as_deref()).collect();
    let key = document.keys().into_iter().find(|k| !names.contains(&k.as_str())).unwrap_or_default();
    let error = Error::new(SqlState::UNDEFINED_PARAMETER, format!("{} has no parameter \"{key}\"", sig.identity))
        .detail(format!("The signature is {}.", sig.describe()));
    match nearest(&key, names) {
        Some(similar) => error.hint(format!("Did you mean \"{similar}\"?")),
        None => error.hint(how_to_write(sig)),
    }
}

/// An example of arguments that fit.
fn how_to_write(sig: &Signature) -> String {
    let named: Option<Vec<String>> =
        sig.params.iter().map(|p| p.name.as_deref().map(|n| format!("{}: …", serde_json::Value::from(n)))).collect();
    let example = match (&sig.params[..], named) {
        ([], _) => return "Leave args out: it takes none.".into(),
        ([one], _) if !one.variadic && takes_document(one) => "{…}".into(),
        (_, Some(named)) => format!("{{{}}}", named.join(", ")),
        (params, None) => format!("[{}]", vec!["…"; params.len()].join(", ")),
    };
    format!("Write args => '{example}'.")
}

fn called(sig: &Signature, i: usize) -> String {
    match &sig.params[i].name {
        Some(name) => format!("parameter \"{name}\""),
        None => format!("parameter {}", i + 1),
    }
}

/// The conversion's own error, and which parameter it is about.
fn unconvertible(sig: &Signature, i: usize, failure: Failure) -> Error {
    let mut error = Error::new(failure.sqlstate, format!("{} of {}: {}", called(sig, i), sig.identity, failure.message));
    error.detail = failure.detail;
    error.hint = failure.hint;
    error
}
