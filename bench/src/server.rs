//! The server that is measured: connections and small questions.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls, SimpleQueryMessage};

pub const DATABASE: &str = "bench";

/// A part that makes no progress for so long is given up.
const STUCK: Duration = Duration::from_secs(60);

pub struct Server {
    socket: PathBuf,
    programs: PathBuf,
}

impl Server {
    /// As bench/run starts it.
    pub fn from_environment() -> Server {
        let path = |name| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: use bench/run")));
        let server = Server { socket: path("BENCH_SOCKET"), programs: path("BENCH_PG_BIN") };
        let mut client = server.connect("postgres", "postgres");
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).expect("CREATE DATABASE");
        server
    }

    fn connect(&self, user: &str, database: &str) -> Client {
        postgres::Config::new()
            .host_path(&self.socket)
            .user(user)
            .dbname(database)
            .application_name("bench")
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("{user} can't connect: {error}"))
    }

    pub fn client(&self, user: &str) -> Client {
        self.connect(user, DATABASE)
    }

    /// As the superuser, each statement a transaction of its own when there is one.
    pub fn run(&self, sql: &str) {
        run(&mut self.client("postgres"), sql);
    }

    pub fn value(&self, sql: &str) -> String {
        value(&mut self.client("postgres"), sql)
    }

    pub fn number(&self, sql: &str) -> f64 {
        number(&mut self.client("postgres"), sql)
    }

    /// pgbench and the like, pointed at this server.
    pub fn program(&self, name: &str, user: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("PGHOST", &self.socket).env("PGUSER", user).env("PGDATABASE", DATABASE);
        command
    }

    pub fn wal_position(&self) -> f64 {
        self.number("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    }

    /// Before a measurement: nothing left to write of what was before it.
    pub fn settle(&self) {
        self.run("CHECKPOINT");
    }
}

pub fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{}\n{sql}", text_of(&error)));
}

/// The first value of the last row.
pub fn value(client: &mut Client, sql: &str) -> String {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{}\n{sql}", text_of(&error)));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    rows.last().unwrap_or_else(|| panic!("no row: {sql}"))
}

pub fn number(client: &mut Client, sql: &str) -> f64 {
    let text = value(client, sql);
    text.parse().unwrap_or_else(|_| panic!("not a number: {text:?}\n{sql}"))
}

pub fn text_of(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| {
            let extra: String = [db.detail(), db.hint()].into_iter().flatten().map(|text| format!(" ({text})")).collect();
            format!("{} {}{extra}", db.code().code(), db.message())
        },
    )
}

/// Looks until `left` says 0. Gives up when nothing becomes less for a while. Looking takes CPU from what is measured: it gets
/// a twentieth of one core at most.
pub fn wait_for_none(what: &str, look_again: Duration, left: impl FnMut() -> f64) {
    wait_patiently(what, look_again, STUCK, left);
}

/// The same with a bound of its own.
pub fn wait_patiently(what: &str, look_again: Duration, patience: Duration, mut left: impl FnMut() -> f64) {
    let (mut least, mut changed) = (f64::INFINITY, Instant::now());
    loop {
        let began = Instant::now();
        let now = left();
        if now == 0.0 {
            return;
        }
        if now < least {
            (least, changed) = (now, Instant::now());
        }
        assert!(changed.elapsed() < patience, "stuck with {now} {what} left");
        std::thread::sleep(look_again.max(began.elapsed() * 20));
    }
}
