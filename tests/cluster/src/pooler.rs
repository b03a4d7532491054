//! pgbouncer in front of a server, in transaction mode: sessions of the server that clients share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::process;

/// Listens on a unix socket of its own. Dropped: it is killed, and its directory goes.
pub struct Pooler {
    child: Child,
    socket: PathBuf,
}

impl Pooler {
    /// In this new directory; to the server whose socket is in the other one, with so many sessions there for each of these users.
    pub(crate) fn new(directory: &Path, server: &Path, users: &[&str], size: usize) -> Pooler {
        process::server_dir(directory);
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            path
        };
        let users: String = users.iter().map(|user| format!("\"{user}\" \"\"\n")).collect();
        let users = file("users", &users);
        let settings = format!(
            "[databases]\n* = host={server}\n[pgbouncer]\nunix_socket_dir = {directory}\nlisten_port = 6432\n\
             auth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = {size}\nserver_lifetime = 3600\n",
            server = server.display(),
            directory = directory.display(),
            users = users.display(),
        );
        let settings = file("pgbouncer.ini", &settings);
        let log = fs::File::create(directory.join("log")).expect("a log");
        let mut command: Command = process::as_server(program());
        command.arg(&settings).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("pgbouncer starts");
        let pooler = Pooler { child, socket: directory.into() };
        let socket = directory.join(".s.PGSQL.6432");
        crate::wait_for("pgbouncer to listen", Duration::from_secs(20), || socket.exists());
        pooler
    }

    pub fn client(&self, user: &str, database: &str) -> Client {
        let mut config = postgres::Config::new();
        config.host_path(&self.socket).port(6432).user(user).dbname(database).application_name("pooled");
        config.connect(NoTls).unwrap_or_else(|error| panic!("{user} can't connect to {database} by the pooler: {error}"))
    }

    /// As power loss on its machine would end it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.socket);
    }
}

/// Where Debian puts it, which is on few users' paths.
fn program() -> PathBuf {
    let path = PathBuf::from("/usr/sbin/pgbouncer");
    if path.exists() { path } else { "pgbouncer".into() }
}
