//! Errors say what is wrong, not where in our code that was found.
//!
//! pgrx appends a backtrace to the DETAIL of every error and warning on its way through Rust, anybody's too, if the server was
//! started with RUST_BACKTRACE set. What a panic leaves in the server's log is not concerned.

/// For the start of the library, before there is any error.
pub fn keep_out_of_errors() {
    // SAFETY: in the postmaster or in a session that loads the library: a process with one thread, in which nobody else
    // reads or writes the environment now.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") }
}
