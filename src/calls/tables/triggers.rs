//! The triggers of one listener on its table, and what they call.
//!
//! They call functions of the table's own schema, which a dump has with them: postgres/stand_in.rs. Where this library isn't
//! loaded in every session they call the extension's. Their arguments are the listener's id and what was declared: all that
//! is left of it in a database where nobody knows the id.

use super::{Target, conditions, ddl, trigger_name, trigger_prefix};
use crate::postgres::caught::catch;
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::trigger::Operation;
use crate::postgres::{catalog, sandbox, stand_in, subtransaction};
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::shared;
use crate::tenant::records::exists;
use pgrx::{Spi, pg_sys};
use serde_json::{Value as Json, json};

/// What somebody has declared of a listener.
#[derive(Clone)]
pub struct Definition {
    pub tenant: String,
    pub handler: String,
    pub operations: Vec<Operation>,
    pub each: String,
    pub only_if: Option<String>,
    pub task: Option<Json>,
    /// Of a trigger's: it tells all of it.
    pub is_whole: bool,
}

impl Definition {
    pub fn events(&self) -> Vec<String> {
        self.operations.iter().map(|o| o.name().to_string()).collect()
    }
    /// For a trigger's argument, which everybody can read who may connect: without what tasks are about.
    fn document(&self) -> Json {
        let mut task = self.task.clone();
        let hidden = task.as_mut().and_then(Json::as_object_mut).and_then(|task| task.remove("meta")).is_some();
        json!({
            "tenant": self.tenant, "handler": self.handler, "events": self.events(), "each": self.each, "only_if": self.only_if, "task": task, "hidden": hidden
        })
    }
    /// As a trigger tells it; None: it doesn't.
    pub fn of(document: &Json) -> Option<Definition> {
        let text = |key: &str| document.get(key).and_then(Json::as_str).map(str::to_string);
        let events = document.get("events")?.as_array()?.iter().map(|event| Operation::of(event.as_str()?));
        Some(Definition {
            tenant: text("tenant")?,
            handler: text("handler")?,
            operations: events.collect::<Option<Vec<_>>>()?,
            each: text("each")?,
            only_if: text("only_if"),
            task: document.get("task").filter(|task| !task.is_null()).cloned(),
            is_whole: document.get("hidden").and_then(Json::as_bool) != Some(true),
        })
    }
    /// The call that declares it.
    pub fn call(&self, table: &str) -> String {
        let quote = |text: &str| pgrx::spi::quote_literal(text);
        let only_if = self.only_if.as_ref().map_or(String::new(), |condition| format!(", only_if => {}", quote(condition)));
        let task = self.task.as_ref().map_or(String::new(), |task| format!(", task => {}", quote(&task.to_string())));
        format!(
            "SELECT tq_listen_table({}, {}, events => '{{{}}}', each => {}{only_if}{task}, tenant => {})",
            quote(table),
            quote(&self.handler),
            self.events().join(","),
            quote(&self.each),
            quote(&self.tenant)
        )
    }
}

/// What stands in front of a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    None,
    /// `tenant_q.condition_is_trusted`, asked when a statement prepares the condition.
    OfOwners,
}

/// An error of PostgreSQL's about a condition.
fn of_condition(error: Error, condition: &str) -> Error {
    let error = error.within(condition);
    match error.sqlstate {
        SqlState::INVALID_OBJECT_DEFINITION if error.hint.is_none() => error
            .hint("only_if must suit all events that are listened to: an insert has no OLD, a delete has no NEW. Say which with events."),
        _ => error,
    }
}

/// The triggers of one listener on its table.
pub struct Triggers<'a> {
    pub target: &'a Target,
    /// Where a condition looks names up.
    pub path: &'a str,
    pub id: Id,
    pub definition: &'a Definition,
}

impl Triggers<'_> {
    /// Makes them, of a condition that may be made and uses what it may.
    pub fn make(&self) -> Result<()> {
        self.function("", "pg_catalog.trigger", stand_in::CHANGED)?;
        self.create(Guard::None)?;
        if self.definition.only_if.is_some() {
            self.check_condition()?;
        }
        Ok(())
    }

    /// Whether they call functions of the table's own schema.
    fn stand_in(&self) -> bool {
        shared::get().is_some() && !self.schema().starts_with("pg_temp")
    }
    fn schema(&self) -> String {
        catalog::schema_name(self.target.schema).unwrap_or_default()
    }
    /// The name of both functions.
    fn own_name(&self) -> String {
        let name = trigger_prefix(self.id);
        format!("{}.{}", catalog::quote(&self.schema()), catalog::quote(name.trim_end_matches('_')))
    }

    /// Makes one of them: by the extension, for the table's owner need not be allowed to create anything there, and theirs,
    /// as a dump is to restore what theirs is.
    fn function(&self, arguments: &str, returns: &str, text: &str) -> Result<()> {
        if !self.stand_in() {
            return Ok(());
        }
        let name = format!("{}({arguments})", self.own_name());
        let (schema, owner) = (pg_sys::Oid::from(self.target.schema), pg_sys::Oid::from(self.target.owner));
        let volatility = if arguments.is_empty() { "VOLATILE" } else { "IMMUTABLE STRICT" };
        let made = format!(
            "CREATE FUNCTION {name} RETURNS {returns} LANGUAGE plpgsql {volatility} AS {};
             ALTER FUNCTION {name} OWNER TO {};
             GRANT EXECUTE ON FUNCTION {name} TO PUBLIC;
             COMMENT ON FUNCTION {name} IS 'of a listener of tq_listen_table: where the extension tenant_q is not installed it does nothing'",
            pgrx::spi::quote_literal(text),
            catalog::quote(&catalog::role_name(self.target.owner).unwrap_or_default()),
        );
        sandbox::as_extension(|| Spi::run(&made)).map_err(Error::from)?;
        // Names are looked up as they are now.
        let there = "SELECT FROM pg_catalog.pg_proc WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure($1)
              AND pronamespace OPERATOR(pg_catalog.=) $2 AND proowner OPERATOR(pg_catalog.=) $3";
        match exists(there, &[name.as_str().into(), schema.into(), owner.into()])? {
            true => Ok(()),
            false => Err(Error::new(SqlState::SERIALIZATION_FAILURE, format!("the schema of {} was renamed meanwhile", self.target.name))),
        }
    }

    fn create(&self, guard: Guard) -> Result<()> {
        let operations = self.definition.operations.iter();
        // A truncate is asked nothing, and stays as it is.
        for operation in operations.filter(|operation| guard == Guard::None || **operation != Operation::Truncate) {
            // What is wrong with a declaration is wrong with the condition: nothing else in it is the caller's.
            catch(|| self.target.ddl(self.path, &self.declaration(*operation, guard)))
                .map_err(|failure| match &self.definition.only_if {
                    Some(condition) => of_condition(failure.into(), condition),
                    None => failure.into(),
                })
                .and_then(|done| done)?;
        }
        Ok(())
    }

    fn declaration(&self, operation: Operation, guard: Guard) -> String {
        let by_row = self.definition.each == "row";
        let event = operation.name().to_ascii_uppercase();
        let transition = match operation {
            _ if by_row => "",
            Operation::Insert => "REFERENCING NEW TABLE AS tq_new",
            Operation::Update => "REFERENCING OLD TABLE AS tq_old NEW TABLE AS tq_new",
            Operation::Delete => "REFERENCING OLD TABLE AS tq_old",
            Operation::Truncate => "",
        };
        let level = if by_row && operation != Operation::Truncate { "ROW" } else { "STATEMENT" };
        let (name, table, id) = (trigger_name(self.id, operation), &self.target.name, self.id);
        let (changed, trusted) = match self.stand_in() {
            true => (self.own_name(), self.own_name()),
            false => ("tenant_q.table_changed".into(), "tenant_q.condition_is_trusted".into()),
        };
        let when = match (&self.definition.only_if, guard) {
            (None, _) => String::new(),
            _ if operation == Operation::Truncate => String::new(),
            (Some(condition), Guard::OfOwners) => format!(
                "WHEN (CASE WHEN {trusted}({}::pg_catalog.regclass, '{id}'::pg_catalog.uuid) THEN (\n{condition}\n) END)",
                pgrx::spi::quote_literal(table)
            ),
            (Some(condition), Guard::None) => format!("WHEN (\n{condition}\n)"),
        };
        let definition = pgrx::spi::quote_literal(self.definition.document().to_string());
        format!(
            "CREATE TRIGGER {name} AFTER {event} ON {table} {transition} FOR EACH {level} {when} EXECUTE FUNCTION {changed}('{id}', {definition})"
        )
    }

    /// Whether the condition, now that it is parsed, uses what it may; with a guard from here on, if it uses anything.
    fn check_condition(&self) -> Result<()> {
        let target = self.target;
        let uses = conditions::condition_uses(Some(target.oid), &trigger_prefix(self.id))?;
        if let Some(one) = uses.iter().find(|one| !one.trusted) {
            return Err(conditions::untrusted(&one.what(), &target.name, target.owner));
        }
        if uses.is_empty() {
            return Ok(());
        }
        let guard = Spi::get_one::<bool>(
            "SELECT pg_catalog.to_regprocedure('tenant_q.condition_is_trusted(pg_catalog.regclass, pg_catalog.uuid)') IS NOT NULL",
        );
        if guard.ok().flatten() != Some(true) {
            return Err(Error::state(
                "this database has an older version of the extension, without conditions that use your own functions",
            )
            .hint("ALTER EXTENSION tenant_q UPDATE"));
        }
        // Whom that belongs to may change: it is asked at each statement.
        for operation in self.definition.operations.iter().filter(|operation| **operation != Operation::Truncate) {
            target.ddl("pg_catalog, pg_temp", &format!("DROP TRIGGER {} ON {}", trigger_name(self.id, *operation), target.name))?;
        }
        self.function("pg_catalog.regclass, pg_catalog.uuid", "pg_catalog.bool", stand_in::TRUSTED)?;
        self.create(Guard::OfOwners)
    }
}

/// A trigger on a table, made by tq_listen_table here or where the table comes from.
pub struct Made {
    pub name: String,
    pub id: Option<Id>,
    pub definition: Option<Definition>,
    /// The listener that it is of, on this very table: its tenant and handler. None: nobody is told by it.
    pub listener: Option<(String, String)>,
    /// It calls the extension's function itself.
    pub is_direct: bool,
    pub is_enabled: bool,
}

/// All of a table's. Run under a search_path of pg_catalog.
pub fn made(relation: u32) -> Result<Vec<Made>> {
    let read = || {
        Spi::connect(|c| {
            c.select(
                "SELECT t.tgname::text, t.tgargs, l.tenant, l.handler, t.tgfoid = 'tenant_q.table_changed()'::regprocedure, t.tgenabled <> 'D'
                   FROM pg_catalog.pg_trigger t
                   LEFT JOIN tenant_q.table_listener l ON strpos(encode(t.tgargs, 'escape'), l.id::text) = 1
                    AND (l.relation_oid = t.tgrelid OR to_regclass(l.relation) = t.tgrelid
                         OR NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = l.relation_oid))
                  WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname::text, 'tq_listen_')
                  ORDER BY 1",
                None,
                &[pg_sys::Oid::from(relation).into()],
            )?
            .map(|row| {
                let bytes: Vec<u8> = row.get(2)?.unwrap_or_default();
                let mut arguments = bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                let listener = (row.get::<String>(3)?, row.get::<String>(4)?);
                Ok(Made {
                    name: row.get(1)?.unwrap_or_default(),
                    id: arguments.next().and_then(|text| Id::parse(&text)),
                    definition: arguments.next().and_then(|text| Definition::of(&serde_json::from_str(&text).ok()?)),
                    listener: listener.0.zip(listener.1),
                    is_direct: row.get(5)?.unwrap_or(false),
                    is_enabled: row.get(6)?.unwrap_or(true),
                })
            })
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    sandbox::as_extension(read).map_err(Error::from)
}

/// Drops triggers of a table, and their functions with the last of them.
pub fn drop(target: &Target, triggers: &[&str]) -> Result<()> {
    if triggers.is_empty() {
        return Ok(());
    }
    let functions = functions_of(target.oid, triggers)?;
    for name in triggers {
        ddl(target.owner, "pg_catalog, pg_temp", &format!("DROP TRIGGER {} ON {}", catalog::quote(name), target.name))?;
    }
    for function in functions {
        // What else somebody has made to call it keeps it.
        let _kept =
            subtransaction::run(|| Ok(sandbox::as_extension(|| Spi::run(&format!("DROP FUNCTION {function}"))).map_err(Error::from)?));
    }
    Ok(())
}

/// What triggers call, and what stands in front of their conditions, as far as it is of our making.
fn functions_of(relation: u32, triggers: &[&str]) -> Result<Vec<String>> {
    let names: Vec<String> = triggers.iter().map(|name| name.to_string()).collect();
    let texts = vec![stand_in::CHANGED.to_string(), stand_in::TRUSTED.to_string()];
    let read = || {
        Spi::connect(|c| {
            c.select(
                "SELECT DISTINCT g.oid::regprocedure::text
                   FROM pg_catalog.pg_trigger t
                   JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
                   JOIN pg_catalog.pg_proc g ON g.pronamespace = f.pronamespace AND g.proname = f.proname
                  WHERE t.tgrelid = $1 AND t.tgname::text = ANY ($2) AND starts_with(f.proname::text, 'tq_listen_') AND g.prosrc = ANY ($3)",
                None,
                &[pg_sys::Oid::from(relation).into(), names.into(), texts.into()],
            )?
            .map(|row| row.get::<String>(1).map(Option::unwrap_or_default))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    sandbox::as_extension(read).map_err(Error::from)
}
