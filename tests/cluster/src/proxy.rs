//! A cable that can be cut: a TCP proxy in front of a server, which stops forwarding and closes nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Listens on a loopback port of its own. Dropped: whatever came later is refused.
pub struct Proxy {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

/// How often a pump looks whether it is cut.
const LOOK: Duration = Duration::from_millis(20);

impl Proxy {
    /// To the server whose unix socket this is.
    pub fn to(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = is_cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                connect(client, server, &cut);
            }
        });
        Proxy { port, is_cut }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on nothing gets through, in either direction, and neither end hears of it.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// What was held up gets through.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn connect(client: TcpStream, server: UnixStream, cut: &Arc<AtomicBool>) {
    client.set_read_timeout(Some(LOOK)).expect("a timeout");
    server.set_read_timeout(Some(LOOK)).expect("a timeout");
    let (client_too, server_too) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    let (there, back) = (cut.clone(), cut.clone());
    std::thread::spawn(move || {
        pump(client, server_too.try_clone().expect("a handle"), &there);
        let _ = server_too.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        pump(server, client_too.try_clone().expect("a handle"), &back);
        let _ = client_too.shutdown(Shutdown::Both);
    });
}

fn pump(mut from: impl Read, mut to: impl Write, cut: &AtomicBool) {
    let mut bytes = [0; 8192];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return wait_mended(cut),
            Ok(n) => {
                wait_mended(cut);
                if to.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return wait_mended(cut),
        }
    }
}

fn wait_mended(cut: &AtomicBool) {
    while cut.load(Ordering::SeqCst) {
        std::thread::sleep(LOOK);
    }
}
