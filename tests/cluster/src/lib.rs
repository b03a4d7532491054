//! A real PostgreSQL server with the extension preloaded, for one test: started in a directory of its own, used through
//! ordinary connections, killed and restarted at will, and gone when the value is dropped.
//!
//! ```no_run
//! let cluster = cluster::Cluster::start("");
//! cluster.run("postgres", "CREATE EXTENSION tenant_q");
//! cluster.wait_until("postgres", "SELECT count(*) = 3 FROM public.fx");
//! ```
//!
//! Rules: nothing sleeps; a test waits for a published state by [`Cluster::wait_until`] or [`wait_for`], whose bounds are
//! generous because they are only ever reached by a failure. Servers listen on a unix socket in a directory that nobody
//! else can enter, so neither ports nor passwords are needed. Run as root, servers run as user postgres.
//!
//! From the environment: `TENANT_Q_PG_BIN`, the `bin` of a PostgreSQL that has the extension (else the private copy that
//! the checkout's scripts make); `TENANT_Q_RUN_DIR`, where the clusters go (else one below the temporary directory).
//! The log of a failed test's server is kept in `TENANT_Q_LOG_DIR` (else the temporary directory), and its end is shown.

mod clock;
mod pooler;
mod process;
mod proxy;
mod rows;
pub mod site;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use clock::Clock;
pub use pooler::Pooler;
pub use postgres;
pub use postgres::{Client, NoTls};
pub use process::{kill, kill9, limit_memory, private_memory, private_memory_if_alive, process_exists};
pub use proxy::Proxy;
pub use rows::{Row, SqlError, query};

/// How long anything may take before a wait is called a failure. An idle machine needs a hundredth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `pg_ctl stop -m …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Smart,
    Fast,
    /// Every process is killed: what a crash leaves behind.
    Immediate,
}

/// One server. Dropped: stopped and removed.
pub struct Cluster {
    name: String,
    /// Its programs.
    bin: PathBuf,
    /// Holds `data`, `socket` and `server.log`.
    dir: PathBuf,
    socket: PathBuf,
    /// What the log said before the last [`Cluster::forget_log`].
    log_start: usize,
    clock: Option<Clock>,
}

impl Cluster {
    /// A new server with `pg_test.conf` and then the lines of `extra_conf`, e.g. `"max_worker_processes = 4\n"`.
    pub fn start(extra_conf: &str) -> Cluster {
        let cluster = Cluster::create(extra_conf);
        cluster.server_start();
        cluster
    }

    /// The same, not started yet: for tests that arrange the data directory first.
    pub fn create(extra_conf: &str) -> Cluster {
        let cluster = Cluster::directories(&pg_bin());
        process::run(process::as_server("cp").arg("-a").arg(template()).arg(cluster.data()));
        cluster.append_settings(&format!("{}\n{extra_conf}\n", pg_test_conf()));
        cluster
    }

    /// The same of another PostgreSQL, whose programs are in `bin`, with more arguments of its initdb.
    pub fn create_with(bin: &Path, initdb_args: &[&str], extra_conf: &str) -> Cluster {
        let cluster = Cluster::directories(bin);
        initdb(bin, initdb_args, &cluster.data());
        cluster.append_settings(&format!("{}\n{extra_conf}\n", pg_test_conf()));
        cluster
    }

    /// A new server whose clock, [`Cluster::clock`], shows another time: seconds since 1970.
    pub fn start_at(at: i64, extra_conf: &str) -> Cluster {
        // What a server does every so often isn't to be done thousands of times faster.
        let calm = "autovacuum = off\ncheckpoint_timeout = '1d'\nbgwriter_delay = '10s'\nwal_writer_delay = '10s'\n";
        let mut cluster = Cluster::create(&format!("{calm}{extra_conf}"));
        cluster.clock = Some(Clock::new(&cluster.dir, at));
        cluster.server_start();
        cluster
    }

    /// The clock of a server made by [`Cluster::start_at`].
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("a clock of its own")
    }

    /// A streaming standby of `primary`, started, by pg_basebackup.
    pub fn standby_of(primary: &Cluster, extra_conf: &str) -> Cluster {
        let cluster = Cluster::directories(&primary.bin);
        process::run(
            process::as_server(primary.bin.join("pg_basebackup"))
                .arg("-h")
                .arg(&primary.socket)
                .args(["-U", "postgres", "-c", "fast", "-R", "-D"])
                .arg(cluster.data()),
        );
        cluster.append_settings(extra_conf);
        cluster.server_start();
        cluster
    }

    fn directories(bin: &Path) -> Cluster {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
        let dir = run_dir().join(format!("{number}-{test}"));
        process::server_dir(&dir);
        // A socket's path may have 107 bytes: no test's name in it, and elsewhere if the run directory's is long.
        let mut socket = run_dir().join(format!("s{number}"));
        if socket.as_os_str().len() > 85 {
            socket = PathBuf::from(format!("/tmp/tq.{}.{number}", std::process::id()));
        }
        process::server_dir(&socket);
        Cluster { name: test, bin: bin.to_owned(), dir, socket, log_start: 0, clock: None }
    }

    // ---- settings

    /// Lines for the end of postgresql.conf, where they win; in force after [`Cluster::reload`] or a restart. Also adds
    /// the socket's directory, which a copied configuration must not keep.
    pub fn append_settings(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(&path).expect("postgresql.conf");
        writeln!(file, "{lines}\nlisten_addresses = ''\nunix_socket_directories = '{}'", self.socket.display())
            .expect("write postgresql.conf");
    }

    /// Has the server read its settings again.
    pub fn reload(&self) {
        self.pg_ctl(&["reload"]);
    }

    // ---- life and death

    /// Starts a stopped server and waits until it takes connections.
    pub fn server_start(&self) {
        self.try_server_start().unwrap_or_else(|output| {
            panic!("the server doesn't start: {output}\n{}", self.log_end(40));
        });
    }

    /// The same for a server that may refuse: what pg_ctl says.
    pub fn try_server_start(&self) -> Result<(), String> {
        let output = process::as_server(self.bin.join("pg_ctl"))
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(self.log_path())
            .args(["-w", "-t", "120", "start"])
            .envs(self.clock.iter().flat_map(Clock::environment))
            // As somebody may have set it: errors don't get longer by it.
            .env("RUST_BACKTRACE", "full")
            .env("RUST_LIB_BACKTRACE", "full")
            .output()
            .expect("pg_ctl");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    pub fn stop(&self, mode: Stop) {
        self.pg_ctl(&["stop", "-w", "-t", "120", "-m", mode.name()]);
    }

    pub fn restart(&self, mode: Stop) {
        self.stop(mode);
        self.server_start();
    }

    /// Ends a standby's standing by.
    pub fn promote(&self) {
        self.pg_ctl(&["promote", "-w", "-t", "120"]);
    }

    pub fn is_running(&self) -> bool {
        self.postmaster().is_some_and(process_exists)
    }

    /// The postmaster's process id, while its pid file is there.
    pub fn postmaster(&self) -> Option<i32> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    }

    /// After a crash that the server mends itself: waits until it takes connections again.
    pub fn wait_ready(&self) {
        wait_for("the server to take connections", PATIENCE, || self.try_client("postgres", "postgres").is_ok());
    }

    fn pg_ctl(&self, args: &[&str]) {
        process::run(process::as_server(self.bin.join("pg_ctl")).arg("-D").arg(self.data()).args(args));
    }

    // ---- connections

    /// A new connection.
    pub fn client(&self, user: &str, database: &str) -> Client {
        self.try_client(user, database).unwrap_or_else(|error| panic!("{user} can't connect to {database}: {}", SqlError::from(error)))
    }

    pub fn try_client(&self, user: &str, database: &str) -> Result<Client, postgres::Error> {
        postgres::Config::new()
            .host_path(&self.socket)
            .user(user)
            .dbname(database)
            .application_name("test")
            .connect_timeout(Duration::from_secs(20))
            .connect(NoTls)
    }

    /// A cable to this server that can be cut.
    pub fn proxy(&self) -> Proxy {
        Proxy::to(self.socket.join(".s.PGSQL.5432"))
    }

    /// A new connection by such a cable.
    pub fn client_by(&self, proxy: &Proxy, user: &str, database: &str) -> Client {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(proxy.port()).user(user).dbname(database).application_name("test");
        config.connect(NoTls).unwrap_or_else(|error| panic!("{user} can't connect to {database}: {}", SqlError::from(error)))
    }

    /// pgbouncer in front of this server, with so many sessions for each of these users.
    pub fn pooler(&self, users: &[&str], size: usize) -> Pooler {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Beside the server's: names of sockets are short.
        let name = format!("p{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Pooler::new(&self.socket.with_file_name(name), &self.socket, users, size)
    }

    /// For programs that make their own connection: the `-h` of psql.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One of PostgreSQL's programs (psql, pg_dump, pgbench, …), pointed at this server as its superuser.
    pub fn program(&self, name: &str) -> Command {
        let mut command = process::as_caller(self.bin.join(name));
        command.env("PGHOST", &self.socket).env("PGUSER", "postgres");
        command
    }

    /// One that works on the data directory: run as who runs the server, in a directory that this user may write to.
    pub fn server_program(&self, name: &str) -> Command {
        let mut command = process::as_server(self.bin.join(name));
        command.current_dir(&self.dir);
        command
    }

    /// What psql prints (unaligned, no headings) for a script of any length, as the superuser. Panics if it fails.
    pub fn psql(&self, database: &str, script: &str) -> String {
        process::run(self.program("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).args(["-d", database, "-c", script]))
    }

    // ---- SQL, each on a connection of its own

    /// Runs statements as the superuser. They are one transaction unless they say otherwise.
    pub fn run(&self, database: &str, sql: &str) {
        self.run_as("postgres", database, sql);
    }

    pub fn run_as(&self, user: &str, database: &str, sql: &str) {
        self.try_run_as(user, database, sql).unwrap_or_else(|error| panic!("{user} in {database}: {error}\n{sql}"));
    }

    /// For statements that are to fail: `cluster.try_run_as(…).unwrap_err().code`.
    pub fn try_run_as(&self, user: &str, database: &str, sql: &str) -> Result<(), SqlError> {
        let mut client = self.try_client(user, database)?;
        Ok(client.batch_execute(sql)?)
    }

    /// The rows of the last statement, every value as text.
    pub fn rows(&self, database: &str, sql: &str) -> Vec<Row> {
        self.rows_as("postgres", database, sql)
    }

    pub fn rows_as(&self, user: &str, database: &str, sql: &str) -> Vec<Row> {
        self.try_rows_as(user, database, sql).unwrap_or_else(|error| panic!("{user} in {database}: {error}\n{sql}"))
    }

    pub fn try_rows_as(&self, user: &str, database: &str, sql: &str) -> Result<Vec<Row>, SqlError> {
        rows::query(&mut self.try_client(user, database)?, sql)
    }

    /// The only value of the only row, as text; "" for null.
    pub fn value(&self, database: &str, sql: &str) -> String {
        self.value_as("postgres", database, sql)
    }

    pub fn value_as(&self, user: &str, database: &str, sql: &str) -> String {
        rows::only_value(&self.rows_as(user, database, sql), sql)
    }

    /// Runs what `tq_problems` says mends those problems, one by one, as it stands. There must be some.
    pub fn mend(&self, database: &str, problems: &str) {
        let fixes = self.rows(database, &format!("SELECT fix FROM tq_problems WHERE {problems}"));
        assert!(!fixes.is_empty(), "no problems: {problems}");
        for fix in &fixes {
            self.run(database, fix.get(0));
        }
    }

    /// The same as a number.
    pub fn number(&self, database: &str, sql: &str) -> i64 {
        let value = self.value(database, sql);
        value.parse().unwrap_or_else(|_| panic!("not a number: {value:?}\n{sql}"))
    }

    // ---- waiting

    /// Asks a question whose answer is one boolean until it is true, through crashes and restarts of the server.
    pub fn wait_until(&self, database: &str, question: &str) {
        self.wait_until_within(PATIENCE, database, question);
    }

    /// The same, with a bound that is itself part of what is tested. Returns how long it took.
    pub fn wait_until_within(&self, bound: Duration, database: &str, question: &str) -> Duration {
        let began = Instant::now();
        let mut client = None;
        loop {
            let last = match self.ask(&mut client, database, question) {
                Ok(answer) if answer == "t" => return began.elapsed(),
                Ok(answer) => format!("answered {answer:?}"),
                Err(error) => {
                    client = None;
                    error.to_string()
                }
            };
            if began.elapsed() > bound {
                panic!("not true after {:.1} s ({last}): {question}\n{}\n{}", bound.as_secs_f32(), self.activity(), self.log_end(40));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn ask(&self, client: &mut Option<Client>, database: &str, question: &str) -> Result<String, SqlError> {
        if client.is_none() {
            *client = Some(self.try_client("postgres", database)?);
        }
        let rows = rows::query(client.as_mut().expect("set above"), question)?;
        Ok(rows::only_value(&rows, question))
    }

    /// Waits until the log, since the last [`Cluster::forget_log`], has a line with `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("a log line with {text:?}"), PATIENCE, || self.log_contains(text));
    }

    /// What every process of the server does, and what the extension says of itself, for messages.
    pub fn activity(&self) -> String {
        let processes = "SELECT pid, backend_type, datname, usename, state, wait_event, left(query, 80) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND (backend_type = 'client backend' OR backend_type LIKE 'tenant_q%') \
                   ORDER BY backend_type, pid";
        let engine = "SELECT t FROM (SELECT h::text FROM tq_health() AS h UNION ALL SELECT p::text FROM tq_problems AS p \
                   UNION ALL SELECT t::text FROM tq_tenants AS t UNION ALL SELECT w::text FROM tq_workers AS w) AS t";
        let mut text = String::new();
        for sql in [processes, engine] {
            match self.try_rows_as("postgres", "postgres", sql) {
                Ok(rows) => text.extend(rows.iter().map(|row| format!("  {}\n", row.joined(" | ")))),
                Err(error) => text.push_str(&format!("  (no answer: {error})\n")),
            }
        }
        text
    }

    // ---- processes

    /// The process ids of backends of this type (pg_stat_activity.backend_type), e.g. `"tenant_q executor"`.
    pub fn pids(&self, backend_type: &str) -> Vec<i32> {
        let sql = format!(
            "SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = '{}' ORDER BY backend_start",
            backend_type.replace('\'', "''")
        );
        self.rows("postgres", &sql).iter().map(|row| row.get(0).parse().expect("a pid")).collect()
    }

    // ---- the log

    /// What the server logged since the last [`Cluster::forget_log`].
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[self.log_start.min(bytes.len())..]).into_owned()
    }

    pub fn log_contains(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// From here on only what is logged later counts.
    pub fn forget_log(&mut self) {
        self.log_start = fs::metadata(self.log_path()).map_or(0, |meta| meta.len() as usize);
    }

    /// No process died by a signal, nothing panicked. For the end of every test that kills nothing.
    pub fn assert_log_clean(&self) {
        let bad: Vec<_> = (self.log().lines())
            .filter(|line| ["PANIC", "TRAP:", "terminated by signal", "panicked at"].iter().any(|word| line.contains(word)))
            .map(str::to_owned)
            .collect();
        assert!(bad.is_empty(), "in the server's log:\n{}", bad.join("\n"));
    }

    fn log_end(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    // ---- places

    /// Where its programs are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = log_dir().join(format!("{}.log", self.name));
            if fs::copy(self.log_path(), &kept).is_ok() {
                eprintln!("server log kept: {}; its end:\n{}", kept.display(), self.log_end(30));
            }
        }
        self.log_start = 0;
        let trap = self.log().lines().find(|line| line.contains("TRAP:")).map(str::to_owned);
        if self.data().join("postmaster.pid").exists() {
            let _ = process::as_server(self.bin.join("pg_ctl")).arg("-D").arg(self.data()).args(["stop", "-w", "-m", "immediate"]).output();
        }
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_dir_all(&self.socket);
        // A failed assertion of a server that has them (scripts/assert-build): no test may provoke one, whatever it kills.
        if !std::thread::panicking() {
            assert_eq!(trap, None, "in the server's log");
        }
    }
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Stop::Smart => "smart",
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        }
    }
}

/// Looks until `condition` holds. `what` completes the sentence "waited in vain for …".
pub fn wait_for(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < bound, "waited in vain for {what} ({:.1} s)", bound.as_secs_f32());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The programs of a PostgreSQL that has the extension.
pub fn pg_bin() -> PathBuf {
    std::env::var_os("TENANT_Q_PG_BIN").map_or_else(|| checkout().join(".pg/pg15/usr/lib/postgresql/15/bin"), PathBuf::from)
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pg_test_conf() -> String {
    fs::read_to_string(checkout().join("pg_test.conf")).expect("pg_test.conf")
}

fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let above = std::env::var_os("TENANT_Q_RUN_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = above.join(format!("cluster.{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for clusters");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("a directory that others can enter");
        dir
    })
}

fn log_dir() -> PathBuf {
    std::env::var_os("TENANT_Q_LOG_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A data directory as initdb makes it, made once a run: copying it takes a tenth of the time.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = run_dir().join("template");
        initdb(&pg_bin(), &[], &dir);
        dir
    })
}

/// A new data directory. Servers of all majors get the same locale and encoding, from the same provider.
fn initdb(bin: &Path, args: &[&str], data: &Path) {
    process::server_dir(data);
    process::run(
        process::as_server(bin.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=libc", "--no-sync", "-D"])
            .arg(data)
            .args(args),
    );
}
