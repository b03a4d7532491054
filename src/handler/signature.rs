//! Which function a handler's text names, and what it takes.
//!
//! A name is looked up once, at registration, and the function's OID is what is kept: an overload
//! that appears later is never chosen. Looking up runs nothing of anybody's.

use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::function::catalog::{self, Candidate};
use crate::postgres::sqlstate::SqlState;
use crate::pure::nearest::nearest;
use pgrx::pg_sys;

#[derive(Clone, Debug)]
pub struct Signature {
    pub oid: u32,
    pub schema: u32,
    pub owner: u32,
    pub kind: Kind,
    pub returns_set: bool,
    /// The result's type.
    pub result: u32,
    /// What the caller gives, in order: IN, INOUT and VARIADIC.
    pub params: Vec<Param>,
    /// `schema.name(type,type)`, quoted as SQL needs it: the same under every search_path, and
    /// `resolve` reads it back.
    pub identity: String,
    /// It carries SET search_path, so it doesn't see the tenant's.
    pub own_search_path: bool,
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: Option<String>,
    pub type_oid: u32,
    pub has_default: bool,
    pub variadic: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Function,
    Procedure,
}

/// Rows of pg_proc that a search for similar names looks at: some 30 ms where there are 10,000
/// tenants with functions of their own.
const HINT_ROWS_MAX: usize = 100_000;
/// Overloads that a message lists.
const LISTED_MAX: usize = 10;

/// The same of whatever has its name, with other parameters perhaps.
pub fn resolve_any(function: &str, path: &[u32]) -> Result<Signature> {
    resolve(&split(function)?.0, path)
}

/// What `function` names: `name`, `schema.name` or `name(types)` as SQL writes them. Unqualified
/// names are looked up in `path` and then in pg_catalog; the first schema that has the name
/// decides, so that a tenant's own function comes before a shared one of the same name.
pub fn resolve(function: &str, path: &[u32]) -> Result<Signature> {
    let (name, types) = split(function)?;
    let parts = catalog::parse_name(&name).map_err(|f| malformed(function, f))?;
    let (schemas, bare) = match &parts[..] {
        [bare] => (with_catalog(path), bare),
        [schema, bare] => match catalog::schema_oid(schema) {
            Some(schema) => (vec![schema], bare),
            None => {
                return Err(Error::new(SqlState::UNDEFINED_FUNCTION, format!("handler {function} does not exist"))
                    .detail(format!("There is no schema {schema}.")));
            }
        },
        _ => {
            return Err(Error::new(SqlState::INVALID_NAME, format!("invalid function name: {function}"))
                .hint("Write it as name, schema.name or name(types)."));
        }
    };
    let named = catalog::named(bare);
    let mut candidates: Vec<&Candidate> = Vec::new();
    for schema in &schemas {
        candidates.extend(named.iter().filter(|c| c.schema == *schema));
        // Without types the first schema decides; with types the first that has them.
        if types.is_none() && !candidates.is_empty() {
            break;
        }
    }
    let matching = match &types {
        None => candidates.clone(),
        Some(types) => {
            let types = types.iter().map(|t| parse_type(function, t, path)).collect::<Result<Vec<u32>>>()?;
            candidates.iter().copied().find(|c| c.argument_types == types).into_iter().collect()
        }
    };
    let callable: Vec<&Candidate> = matching.iter().copied().filter(|c| kind_of(c.kind).is_some()).collect();
    match callable[..] {
        [one] => load(one.oid).ok_or_else(|| unknown(function, bare, &schemas, &candidates, &named)).and_then(callable_with_json),
        [] if !matching.is_empty() => {
            Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("{function} is an aggregate or window function"))
                .detail("A handler is a function or a procedure that is called by itself."))
        }
        [] => Err(unknown(function, bare, &schemas, &candidates, &named)),
        _ => Err(Error::new(SqlState::AMBIGUOUS_FUNCTION, format!("handler {function} is not unique"))
            .detail(format!("The candidates are {}.", list(&callable)))
            .hint("Write the argument types as well.")),
    }
}

/// The function of that OID; None when there is none, or none that can be called by itself.
pub fn load(oid: u32) -> Option<Signature> {
    let f = catalog::load(oid)?;
    let kind = kind_of(f.kind)?;
    let types: Vec<String> = f.inputs.iter().map(|i| catalog::type_name(i.type_oid)).collect();
    let schema_name = catalog::schema_name(f.schema)?;
    Some(Signature {
        oid,
        schema: f.schema,
        owner: f.owner,
        kind,
        returns_set: f.returns_set,
        result: f.result,
        identity: format!("{}.{}({})", catalog::quote(&schema_name), catalog::quote(&f.name), types.join(",")),
        params: f
            .inputs
            .into_iter()
            .map(|i| Param { name: i.name, type_oid: i.type_oid, has_default: i.has_default, variadic: i.variadic })
            .collect(),
        own_search_path: f.settings.iter().any(|s| s.starts_with("search_path=")),
    })
}

impl Signature {
    /// With the parameters' names, for messages: `t1.send(user_id bigint, note text DEFAULT …)`.
    pub fn describe(&self) -> String {
        let name = self.identity.split_at(self.identity.len() - self.arguments_length()).0;
        let params: Vec<String> = self
            .params
            .iter()
            .map(|p| {
                let variadic = if p.variadic { "VARIADIC " } else { "" };
                let name = p.name.as_deref().map(|n| format!("{} ", catalog::quote(n))).unwrap_or_default();
                let default = if p.has_default { " DEFAULT …" } else { "" };
                format!("{variadic}{name}{}{default}", catalog::type_name(p.type_oid))
            })
            .collect();
        format!("{name}({})", params.join(", "))
    }
    /// The length of `(type,type)` at the end of the identity. Quoted names may hold parentheses.
    fn arguments_length(&self) -> usize {
        let types: Vec<String> = self.params.iter().map(|p| catalog::type_name(p.type_oid)).collect();
        types.join(",").len() + 2
    }
}

fn kind_of(prokind: u8) -> Option<Kind> {
    match prokind {
        b'f' => Some(Kind::Function),
        b'p' => Some(Kind::Procedure),
        _ => None,
    }
}

/// Refuses what JSON can't call: polymorphic parameters, triggers, internals.
fn callable_with_json(signature: Signature) -> Result<Signature> {
    let refuse = |what: String| {
        Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{} cannot be a handler", signature.identity))
            .detail(format!("{what}."))
            .hint("Write a function around it whose parameters have ordinary types."))
    };
    for (i, param) in signature.params.iter().enumerate() {
        if catalog::is_pseudo(param.type_oid) {
            return refuse(format!("Parameter {} is of type {}", i + 1, catalog::type_name(param.type_oid)));
        }
    }
    let result = pg_sys::Oid::from(signature.result);
    if result != pg_sys::VOIDOID && result != pg_sys::RECORDOID && catalog::is_pseudo(signature.result) {
        return refuse(format!("It returns {}", catalog::type_name(signature.result)));
    }
    Ok(signature)
}

fn with_catalog(path: &[u32]) -> Vec<u32> {
    let mut schemas = path.to_vec();
    if !schemas.contains(&pg_sys::PG_CATALOG_NAMESPACE) {
        schemas.push(pg_sys::PG_CATALOG_NAMESPACE);
    }
    schemas
}

/// `name(a, b)` → `name` and its types, with an eye on quotes; what they mean PostgreSQL's own
/// parsers say.
fn split(function: &str) -> Result<(String, Option<Vec<String>>)> {
    let broken = || {
        Error::new(SqlState::INVALID_NAME, format!("invalid function name: {function}"))
            .hint("Write it as name, schema.name or name(types).")
    };
    let mut quoted = false;
    let Some(open) = function.find(|c| {
        quoted ^= c == '"';
        c == '(' && !quoted
    }) else {
        return Ok((function.trim().to_string(), None));
    };
    let inner = function[open + 1..].trim_end().strip_suffix(')').ok_or_else(broken)?;
    let mut types = vec![String::new()];
    let (mut quoted, mut depth) = (false, 0i32);
    for c in inner.chars() {
        quoted ^= c == '"';
        match c {
            '(' | '[' if !quoted => depth += 1,
            ')' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                types.push(String::new());
                continue;
            }
            _ => {}
        }
        if depth < 0 {
            return Err(broken());
        }
        types.last_mut().expect("never empty").push(c);
    }
    if quoted || depth != 0 {
        return Err(broken());
    }
    if inner.trim().is_empty() {
        types.clear();
    }
    Ok((function[..open].trim().to_string(), Some(types)))
}

fn parse_type(function: &str, text: &str, path: &[u32]) -> Result<u32> {
    let undefined = || {
        Error::undefined(format!("type {} does not exist", text.trim())).detail(format!("It is an argument type of handler {function}."))
    };
    catalog::parse_type(text, path).map_err(|f| malformed(function, f))?.ok_or_else(undefined)
}

/// A parser's complaint about the handler's text.
fn malformed(function: &str, failure: Failure) -> Error {
    let sqlstate = if failure.sqlstate == SqlState::SYNTAX_ERROR { SqlState::SYNTAX_ERROR } else { SqlState::INVALID_NAME };
    Error::new(sqlstate, format!("invalid function name: {function}"))
        .detail(format!("PostgreSQL says: {}.", failure.message))
        .hint("Write it as name, schema.name or name(types), quoted as SQL has it.")
}

fn list(candidates: &[&Candidate]) -> String {
    let mut shown: Vec<String> = candidates.iter().filter_map(|c| load(c.oid)).map(|s| s.identity).take(LISTED_MAX).collect();
    if candidates.len() > LISTED_MAX {
        shown.push("…".into());
    }
    shown.join(", ")
}

fn unknown(function: &str, bare: &str, schemas: &[u32], overloads: &[&Candidate], everywhere: &[Candidate]) -> Error {
    let error = Error::new(SqlState::UNDEFINED_FUNCTION, format!("handler {function} does not exist"));
    if !overloads.is_empty() {
        return error.detail(format!("There is {}.", list(overloads))).hint("Write these argument types, or none.");
    }
    let searched: Vec<String> = schemas.iter().filter_map(|s| catalog::schema_name(*s)).map(|s| catalog::quote(&s)).collect();
    let error = error.detail(format!("No function or procedure of that name is in {}.", searched.join(", ")));
    // A tenant's look-alikes elsewhere are of no help, and there may be thousands.
    let names = catalog::names_in(schemas, HINT_ROWS_MAX);
    if let Some(similar) = nearest(bare, names.iter().map(String::as_str)) {
        return error.hint(format!("Did you mean {}?", catalog::quote(similar)));
    }
    match everywhere.iter().find(|c| kind_of(c.kind).is_some()).and_then(|c| catalog::schema_name(c.schema)) {
        Some(schema) => error.hint(format!("There is one in schema {}: write it qualified if that one is meant.", catalog::quote(&schema))),
        None => error.hint("Create the function first."),
    }
}
