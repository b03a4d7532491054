//! External handlers: their code runs in workers outside of the server, which take their tasks and say how they ended.
//!
//! What such a task takes is declared, not a function's: checked at enqueue as a function's arguments are, and handed out
//! complete, an object by the parameters' names. The types are PostgreSQL's own, or enums: to look at a value runs nobody's code.

use crate::handler::arguments;
use crate::handler::signature::{Kind, Param, Signature};
use crate::postgres::error::{Error, Result};
use crate::postgres::function::catalog;
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::tenant::Tenant;
use pgrx::pg_sys;
use serde_json::{Map, Value as Json};
use std::rc::Rc;

pub use crate::shared::role::EXTERNAL;

/// Parameters that a handler can have: as many as a function.
const PARAMETERS: usize = 100;

/// What is special about a handler whose code runs outside.
pub struct External {
    /// Values of parameters that aren't given; None: they must be. In the order of the signature.
    defaults: Vec<Option<Json>>,
    /// Only members of this role may take its tasks; None: whoever may work for the tenant.
    pub worker: Option<u32>,
}

/// What `params` of tq_register says; its errors name the parameter.
pub fn declared(tenant: Option<&Tenant>, name: &str, params: &Json) -> Result<(Signature, Vec<Option<Json>>)> {
    let malformed = |why: String| {
        Error::invalid(format!("params of handler \"{name}\": {why}"))
            .hint(r#"Write them as '[{"name": "order_id", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]'."#)
    };
    let Json::Array(list) = params else { return Err(malformed("it is not an array".into())) };
    if list.len() > PARAMETERS {
        return Err(Error::limit(format!("a handler has at most {PARAMETERS} parameters, not {}", list.len())));
    }
    let path = tenant.map_or_else(Vec::new, |tenant| tenant.path_oids());
    let mut signature = Signature {
        oid: 0,
        schema: 0,
        owner: 0,
        kind: Kind::Function,
        returns_set: false,
        result: 0,
        params: Vec::with_capacity(list.len()),
        identity: String::new(),
        own_search_path: false,
    };
    let mut defaults = Vec::with_capacity(list.len());
    for (n, entry) in list.iter().enumerate() {
        let nth = n + 1;
        let Json::Object(entry) = entry else { return Err(malformed(format!("parameter {nth} is not an object"))) };
        if let Some(key) = entry.keys().find(|key| !matches!(key.as_str(), "name" | "type" | "default")) {
            return Err(malformed(format!("parameter {nth} has no \"{key}\": it has name, type and default")));
        }
        let text = |key: &str| entry.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
        let Some(param) = text("name") else { return Err(malformed(format!("parameter {nth} has no name"))) };
        if signature.params.iter().any(|p| p.name.as_deref() == Some(param)) {
            return Err(malformed(format!("there are two parameters \"{param}\"")));
        }
        let Some(of) = text("type") else { return Err(malformed(format!("parameter \"{param}\" has no type"))) };
        let undefined = || Error::undefined(format!("type {of} does not exist")).detail(format!("It is that of parameter \"{param}\"."));
        let parsed = catalog::parse_type(of, &path).map_err(|f| malformed(format!("type of parameter \"{param}\": {}", f.message)))?;
        let type_oid = parsed.ok_or_else(undefined)?;
        if catalog::is_pseudo(type_oid) || !catalog::runs_nobodys_code(type_oid) {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("parameter \"{param}\" of an external handler is of type {of}"),
            )
            .detail("To look at a value of a type that isn't PostgreSQL's own may run somebody's code.")
            .hint("Declare it as the type beneath, or as jsonb."));
        }
        signature.params.push(Param { name: Some(param.into()), type_oid, has_default: entry.contains_key("default"), variadic: false });
        defaults.push(entry.get("default").cloned());
    }
    let types: Vec<String> = signature.params.iter().map(|p| catalog::type_name(p.type_oid)).collect();
    signature.identity = format!("{name}({})", types.join(","));
    check_defaults(&signature, &defaults).map_err(|e| malformed(format!("default of {}", e.message)))?;
    Ok((signature, defaults))
}

/// Defaults are values of their parameters' types: workers get them as they stand here.
fn check_defaults(signature: &Signature, defaults: &[Option<Json>]) -> Result<()> {
    for (param, default) in signature.params.iter().zip(defaults) {
        if let Some(default) = default {
            let alone = Signature { params: vec![param.clone()], ..signature.clone() };
            // In an array it is a value whatever its shape.
            arguments::check(&alone, Some(&Jsonb::from_value(Json::Array(vec![default.clone()]))), None)?;
        }
    }
    Ok(())
}

impl External {
    pub fn new(defaults: Vec<Option<Json>>, worker: Option<u32>) -> External {
        External { defaults, worker }
    }

    /// Whether this role's worker may take its tasks, as far as the handler says.
    pub fn may_be_taken_by(&self, role: u32) -> bool {
        self.worker.is_none_or(|worker| sandbox::has_privs_of(pg_sys::Oid::from(role), pg_sys::Oid::from(worker)))
    }

    /// Arguments that fit, as workers get them: an object by the parameters' names, complete.
    pub fn complete(&self, signature: &Signature, args: Option<Json>) -> Json {
        let params = &signature.params;
        let mut given = match args {
            args if arguments::takes_whole(signature) => {
                let name = params[0].name.clone().unwrap_or_default();
                args.map_or_else(Map::new, |args| Map::from_iter([(name, args)]))
            }
            Some(Json::Object(given)) => given,
            Some(Json::Array(values)) => {
                params.iter().zip(values).filter_map(|(param, value)| Some((param.name.clone()?, value))).collect()
            }
            Some(Json::Null) if params.is_empty() => Map::new(),
            Some(value) => params.first().and_then(|param| param.name.clone()).map(|name| (name, value)).into_iter().collect(),
            None => Map::new(),
        };
        for (param, default) in params.iter().zip(&self.defaults) {
            if let (Some(name), Some(default)) = (&param.name, default) {
                given.entry(name.clone()).or_insert_with(|| default.clone());
            }
        }
        Json::Object(given)
    }
}

/// A handler is external: what there is of it in the registry, as read by `handler::build`.
pub(super) fn of_row(tenant: &Tenant, name: &str, params: Option<&Json>, worker: Option<u32>) -> Result<(Option<Signature>, Rc<External>)> {
    let Some(params) = params else { return Ok((None, Rc::new(External::new(vec![], worker)))) };
    let (signature, defaults) = declared(Some(tenant), name, params)?;
    Ok((Some(signature), Rc::new(External::new(defaults, worker))))
}
