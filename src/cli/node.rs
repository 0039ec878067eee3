//! `tailops node`, which nobody types: the process that holds the embedded node, and how `tailops serve` starts it. A
//! build without the feature `embedded` refuses both, and says what to do.

use std::path::PathBuf;

use super::Exit;
use crate::tailnet::Launch;

/// The variables that reach the node's process, where they are set; no other does. The first two name the certificate
/// authorities that it trusts, the rest is for a tailnet without internet.
const PASSED_ON: &[&str] = &[
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TS_ASSUME_NETWORK_UP_FOR_TEST",
    "TS_DEBUG_USE_DERP_HTTP",
    "TS_DISABLE_PORTMAPPER",
    "TS_PANIC_IF_HIT_MAIN_CONTROL",
];

/// How the node's process is started, and where systemd put this service's credentials.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub(super) fn launch() -> Result<(Launch, Option<PathBuf>), Exit> {
    if !cfg!(feature = "embedded") {
        return Err(absent("the configuration asks for it (node.mode = \"embedded\")"));
    }
    let set = |name: &&str| Some(((*name).into(), std::env::var_os(name)?));
    let launch = Launch {
        // This very program, also when the file it came from has been replaced by another version.
        program: PathBuf::from("/proc/self/exe"),
        arguments: vec!["node".into()],
        environment: PASSED_ON.iter().filter_map(set).collect(),
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok((launch, credentials))
}

fn absent(why: &str) -> Exit {
    Exit::with(
        3,
        anyhow::anyhow!(
            "this tailops was built without the embedded node, and {why}: build it with `cargo build --release \
             --features embedded` (needs Go 1.26.5 or newer), or join through a tailscaled with node.mode = \"host\""
        ),
    )
}

#[cfg(not(feature = "embedded"))]
pub(super) fn run() -> Result<(), Exit> {
    Err(absent("`tailops node` is it"))
}

/// Is the node until standard input ends.
#[cfg(feature = "embedded")]
pub(super) fn run() -> Result<(), Exit> {
    use std::{
        ffi::CString,
        io::{self, BufRead, IsTerminal, Read},
    };

    use anyhow::{Context, ensure};
    use rustix::{
        fs::Mode,
        process::{Signal, set_parent_process_death_signal, umask},
    };

    /// Far more than any configuration has, in bytes.
    const MOST: u64 = 64 << 10;

    let configuration = || {
        let stdin = io::stdin();
        ensure!(!stdin.is_terminal(), "`tailops serve` starts this command where node.mode is \"embedded\"");
        // Without this, a stopped process would outlive a gateway that was killed.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // What it writes holds the node's keys.
        umask(Mode::RWXG | Mode::RWXO);
        let mut line = Vec::new();
        stdin.lock().take(MOST).read_until(b'\n', &mut line)?;
        ensure!(line.pop() == Some(b'\n'), "standard input ended before the configuration did");
        CString::new(line).context("the configuration")
    };
    match tailops_node::run(&configuration()?) {
        0 => Ok(()),
        code => Err(anyhow::anyhow!("the node ended with code {code}").into()),
    }
}
