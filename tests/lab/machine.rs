//! A machine of the lab: a network namespace with an address on the bridge. Nothing says what runs in it.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    net::Ipv4Addr,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::NAMESPACES;

/// One of them.
pub struct Machine {
    pub name: String,
    pub namespace: String,
    /// On the bridge.
    pub address: Ipv4Addr,
    /// For what runs on it. Removed with the run.
    pub directory: PathBuf,
}

impl Machine {
    pub fn new(name: &str, namespace: String, address: Ipv4Addr, directory: PathBuf) -> Self {
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        Self { name: name.to_owned(), namespace, address, directory }
    }

    /// A command that runs here. Its process id is the program's: ip-netns(8) turns into it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program).stdin(Stdio::null());
        command
    }

    /// Does `work` on a thread of its own that stands in this namespace; so do the threads it starts. Panics pass on.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&Path::new(NAMESPACES).join(&self.namespace));
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs asynchronous `work` in this namespace to its end.
    pub fn visit<F: Future<Output: Send>>(&self, work: impl FnOnce() -> F + Send) -> F::Output {
        self.inside(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
    }

    /// A file in its directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

/// Moves this thread, and no other, into a network namespace.
fn enter(namespace: &Path) {
    let file = File::open(namespace).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
