//! For tests of the file tools: a directory of their own with a secret beside it. Never part of the program.

use std::{
    borrow::Borrow,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    model::{Content, Operation},
    tools::{
        Tool, ToolError,
        rig::{AS_NOBODY, Rig},
    },
};

/// This machine with `root` in a temporary directory as its only root; `outside`, beside it, holds a secret.
pub(in crate::tools) struct Sandbox {
    folder: TempDir,
    /// The target's roots.
    pub(in crate::tools) roots: Vec<PathBuf>,
    /// Run the scripts as the user nobody; needs root.
    pub(in crate::tools) as_nobody: bool,
}

/// What stands in every file outside the root.
pub(in crate::tools) const SECRET: &str = "do-not-tell";

impl Sandbox {
    pub(in crate::tools) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let place = folder.path().canonicalize().unwrap();
        fs::create_dir_all(place.join("outside/folder")).unwrap();
        fs::create_dir(place.join("root")).unwrap();
        fs::write(place.join("outside/secret"), SECRET).unwrap();
        fs::write(place.join("outside/folder/secret"), SECRET).unwrap();
        Self { roots: vec![place.join("root")], folder, as_nobody: false }
    }

    /// As [`Self::new`], but the root is the directory `root` of this machine.
    pub(in crate::tools) fn with_root(root: &str) -> Self {
        let mut sandbox = Self::new();
        sandbox.roots = vec![root.into()];
        sandbox
    }

    /// The place `path` beside the root.
    pub(in crate::tools) fn beside(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    /// The place `path` in the first root.
    pub(in crate::tools) fn inside(&self, path: &str) -> PathBuf {
        self.roots[0].join(path)
    }

    /// `path` in the first root, as an argument.
    pub(in crate::tools) fn arg(&self, path: &str) -> String {
        self.inside(path).to_str().unwrap().to_owned()
    }

    /// The rig whose target has these roots.
    pub(in crate::tools) fn rig(&self) -> Rig {
        let mut rig = Rig::new().under(if self.as_nobody { AS_NOBODY } else { &[] });
        rig.target.roots.clone_from(&self.roots);
        rig
    }

    /// [`Rig::plan`] on [`Self::rig`].
    pub(in crate::tools) fn plan(
        &self,
        tool: &dyn Tool,
        arguments: impl Borrow<Value>,
    ) -> Result<Operation, ToolError> {
        self.rig().plan(tool, arguments)
    }

    /// [`Rig::call`] on [`Self::rig`].
    pub(in crate::tools) fn call(&self, tool: &dyn Tool, arguments: impl Borrow<Value>) -> Result<Content, ToolError> {
        self.rig().call(tool, arguments)
    }
}

/// Makes a FIFO at `path`.
pub(in crate::tools) fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}
