//! Runs a node on a tailnet in this process: Tailscale's tsnet, written in Go (`go/`), behind one function. Answers for
//! that one call across languages, the only unsafe code of the project. Starts no thread and no Go runtime before
//! [`run`] is called, so a program that only holds it is what it was without.

use std::ffi::{CStr, c_char, c_int};

/// Runs the node that `config` describes (one JSON object; `go/config.go` has its fields), until standard input ends or
/// the node fails, and returns the process's exit code.
///
/// To be called once in a process, which is the node's alone from then on: the Go runtime takes over signals that the
/// process gets for its own faults, and never goes away.
#[must_use]
pub fn run(config: &CStr) -> i32 {
    #[expect(unsafe_code, reason = "the one call into the Go archive")]
    mod archive {
        use super::{c_char, c_int};

        unsafe extern "C" {
            pub(super) fn node_run(config: *const c_char) -> c_int;
        }
    }
    #[expect(unsafe_code, reason = "the one call into the Go archive")]
    // SAFETY: `node_run` (go/start.c) has this signature. It only reads `config`, which is a string that ends with NUL
    // and outlives the call, and keeps no pointer to it: `C.GoString` copies. It takes no lock and no memory of Rust's,
    // and no panic or unwinding crosses it: a Go panic ends the process.
    unsafe {
        archive::node_run(config.as_ptr())
    }
}
