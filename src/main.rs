//! The `tailops` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tailops::cli::run(std::env::args_os())
}
