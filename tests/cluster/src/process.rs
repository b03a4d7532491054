//! Programs and processes: who runs them, from where, and how they are killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// What would change a server's or a client's behaviour behind a test's back.
const UNWANTED: &[&str] = &[
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGOPTIONS",
    "PGDATA",
    "PGAPPNAME",
    "PGTZ",
    "PGDATESTYLE",
    "PGCLIENTENCODING",
];

/// A program run as who runs the tests.
pub fn as_caller(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in UNWANTED {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    command
}

/// A program run as who runs the servers, from a directory that this user can enter.
pub fn as_server(program: impl AsRef<OsStr>) -> Command {
    let mut command = as_caller(program);
    command.current_dir("/");
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group).env("HOME", "/");
    }
    command
}

/// An empty directory that only the server's user can enter.
pub fn server_dir(path: &Path) {
    let _ = fs::remove_dir_all(path);
    fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("chmod");
    if let Some((user, group)) = server_user() {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("chown");
    }
}

/// Runs to the end and returns what was printed; panics with the whole output if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// PostgreSQL refuses to run as root: there it runs as user postgres. `None`: as the caller.
fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        // SAFETY: geteuid always succeeds and touches nothing.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        let id = |option| run(Command::new("id").args([option, "postgres"])).trim().parse().expect("a number from id");
        Some((id("-u"), id("-g")))
    })
}

/// SIGKILL: what the kernel does to a process when memory runs out.
pub fn kill9(pid: i32) {
    kill(pid, libc::SIGKILL);
}

/// Sends a signal (`libc::SIGSTOP`, …). A process that is gone already is no error.
pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "not the process id of a server's process: {pid}");
    // SAFETY: kill touches no memory of this process.
    unsafe { libc::kill(pid, signal) };
}

pub fn process_exists(pid: i32) -> bool {
    // SAFETY: as above; signal 0 is never delivered.
    pid > 0 && unsafe { libc::kill(pid, 0) } == 0
}

/// From now on the process gets no more than so many megabytes of addresses beyond those that it has: what a limit of the
/// system's does to all, but to one.
pub fn limit_memory(pid: i32, megabytes: u64) {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let pages: u64 = statm.split(' ').next().expect("a first number").parse().expect("a number");
    let most = pages * 4096 + (megabytes << 20);
    // As the process's own user, who may do so without being privileged.
    run(as_server("prlimit").arg(format!("--pid={pid}")).arg(format!("--as={most}")));
}

/// Kilobytes that the process has for itself: neither shared memory nor files' pages.
pub fn private_memory(pid: i32) -> i64 {
    private_memory_if_alive(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
}

/// The same of a process that may leave.
pub fn private_memory_if_alive(pid: i32) -> Option<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse().expect("a number"))
}
