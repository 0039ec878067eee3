//! `tailops completions`: what a shell completes, made from the definition of the command line. Installs nothing.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::{Exit, NAME, command};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Which shell's
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::from(arguments.shell), &mut command(), NAME, &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
