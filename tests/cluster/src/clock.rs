//! A wall clock of a test's own for a whole server, set and sped up while it runs. How: `clock.c`.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::process;

/// What the server's processes read the time from.
pub struct Clock {
    file: File,
    path: PathBuf,
    /// Of what the file says; even.
    version: Mutex<i64>,
}

impl Clock {
    /// In a directory that the server may enter; set to an instant in seconds since 1970.
    pub(crate) fn new(directory: &Path, at: i64) -> Clock {
        let path = directory.join("clock");
        let file = File::create(&path).expect("a file for the clock");
        file.set_permissions(std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let clock = Clock { file, path, version: Mutex::new(0) };
        clock.set(at, 1);
        clock
    }

    /// From now on it is this instant, in seconds since 1970, and time goes by so many times faster than it does; monotonic
    /// clocks go faster, too, but aren't set.
    /// Sleeping processes don't wake from it, as they don't when a machine's clock is set.
    pub fn set(&self, at: i64, speed: i64) {
        self.write(|_| at * 1_000_000_000, speed);
    }

    /// The speed alone changes.
    pub fn go_on(&self, speed: i64) {
        self.write(|shown| shown, speed);
    }

    /// What the clock shows, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.shown(real_now()).0 / 1_000_000_000
    }

    fn write(&self, wall: impl Fn(i64) -> i64, speed: i64) {
        let mut version = self.version.lock().expect("set by a test that goes on");
        let real = real_now();
        let (shown, monotonic) = if *version == 0 { (0, real) } else { self.shown(real) };
        for (n, word) in [(0, *version + 1), (1, real), (2, wall(shown)), (3, monotonic), (4, speed), (0, *version + 2)] {
            self.file.write_all_at(&word.to_ne_bytes(), n * 8).expect("the clock is set");
        }
        *version += 2;
    }

    /// The wall clock and the monotonic one.
    fn shown(&self, real: i64) -> (i64, i64) {
        let bytes = std::fs::read(&self.path).expect("the clock's file");
        let word = |n: usize| i64::from_ne_bytes(bytes[n * 8..n * 8 + 8].try_into().expect("a word"));
        let passed = (real - word(1)) * word(4);
        (word(2) + passed, word(3) + passed)
    }

    /// What the server is started with.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", library().to_owned()), ("FAKE_CLOCK", self.path.clone())]
    }
}

/// The real monotonic clock, of which `Instant` doesn't tell the value.
fn real_now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct on our stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let library = crate::run_dir().join("clock.so");
        process::run(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(source));
        library
    })
}
