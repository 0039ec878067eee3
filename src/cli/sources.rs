//! Where the configuration comes from: the file, the registry file it names, the environment and the pin. Read anew
//! in the same way at start and at a reload.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::{Exit, data_directory, environment::Environment, pin};
use crate::{
    app::{each_line, site_files},
    config::{self, Config, Profile, SiteFile, read_registry},
    model::EngagementId,
    tools,
};

/// What `serve` was told to read.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// The configuration file.
    pub(super) file: PathBuf,
    /// `--data-dir`.
    pub(super) directory: Option<PathBuf>,
    /// Policies other than those the configuration names.
    pub(super) policies: Option<PathBuf>,
    /// `--config-sha256`.
    pub(super) pin: Option<String>,
    /// Of the process.
    pub(super) environment: Environment,
}

/// A configuration with all it names.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    /// Every file that was read, the configuration first.
    pub(super) files: Vec<pin::Read>,
    /// Whether a pin was there, and held.
    pub(super) pinned: bool,
}

impl Sources {
    pub(super) fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// Reads everything. Errors with every problem, as texts of one line each.
    pub(super) fn read(&self) -> Result<Loaded, Vec<String>> {
        self.read_and_check(|files, complete| pin::check(files, self.pin.as_deref(), complete))
    }

    /// Every file of a valid configuration, whatever its pin says: to pin it anew.
    pub(super) fn read_unpinned(&self) -> Result<Vec<pin::Read>, Vec<String>> {
        self.read_and_check(|_, _| Ok(false)).map(|loaded| loaded.files)
    }

    /// Everything, with the policies of `directory` where it names another than the configuration does, and whatever
    /// the pin says: nothing runs with it.
    pub(super) fn read_to_try(mut self, directory: Option<&Path>) -> Result<Config, Vec<String>> {
        self.policies = directory.map(Path::to_owned);
        self.read_and_check(|_, _| Ok(false)).map(|loaded| loaded.config)
    }

    fn read_and_check(
        &self,
        check: impl Fn(&[pin::Read], bool) -> Result<bool, Vec<String>>,
    ) -> Result<Loaded, Vec<String>> {
        let unreadable = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| vec![format!("{path}: {error}")]
        };
        let mut files = vec![pin::Read::file(&self.file).map_err(unreadable(&self.file))?];
        let mut config = match files.first().map(|file| self.parse(&file.bytes)) {
            Some(Ok(config)) => config,
            Some(Err(problems)) => {
                // An altered file is named as such, whatever else is wrong with it.
                check(&files, false)?;
                return Err(problems);
            }
            None => return Err(Vec::new()),
        };
        let listed = match config.targets_file.clone() {
            Some(path) => Some(pin::Read::file(&path).map_err(unreadable(&path))?),
            None => None,
        };
        files.extend(listed.clone());
        if let Some(directory) = &self.policies {
            config.policy.directory = Some(directory.clone());
        }
        if let Some(directory) = &config.policy.directory {
            // Read once: what the pin was compared with is what will be in force.
            let policies = site_files(directory).map_err(|problems| each_line(&problems))?;
            files.extend(
                policies
                    .iter()
                    .map(|SiteFile { name, text }| pin::Read { path: name.into(), bytes: text.as_bytes().to_vec() }),
            );
            config.policy.files = Some(policies);
        }
        let pinned = check(&files, true)?;
        if let Some(listener) = config.clear_listener() {
            return Err(vec![format!("{}: node.listen: {listener}", self.file.display())]);
        }
        if let Some(file) = listed {
            register(&mut config, &file.path, &file.bytes)?;
        }
        if let Some(directory) = &self.directory {
            config.data_dir = data_directory(Some(directory)).map_err(|error| vec![format!("{error:#}")])?;
            if let Some(root) = config.root_over_state() {
                let (directory, root) = (config.data_dir.display(), root.display());
                return Err(vec![format!("--data-dir: {directory} shares files with the file root {root}")]);
            }
        }
        Ok(Loaded { config, files, pinned })
    }

    /// [`Sources::read`] for a service that shall run with it: profile maximum wants a pin.
    pub(super) fn read_to_serve(&self) -> Result<Config, Vec<String>> {
        let loaded = self.read()?;
        if loaded.config.profile == Profile::Maximum && !loaded.pinned {
            return Err(vec![format!(
                "{}: profile maximum wants a pinned configuration: run `tailops config pin {}`, or give --config-sha256",
                self.file.display(),
                self.file.display()
            )]);
        }
        Ok(loaded.config)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Config, Vec<String>> {
        let text = std::str::from_utf8(bytes).map_err(|error| vec![format!("{}: {error}", self.file.display())])?;
        let names: Vec<_> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
        let mut config = config::load(&self.file, text, &names).map_err(|problems| each_line(&problems))?;
        self.environment.apply(&mut config, text)?;
        Ok(config)
    }
}

impl Environment {
    /// Fills in what the file, `text`, leaves open. What both say differently is refused.
    pub(super) fn apply(&self, config: &mut Config, text: &str) -> Result<(), Vec<String>> {
        let tree: toml::Table = text.parse().unwrap_or_default();
        let says_max_body = tree.get("http").and_then(|http| http.get("max_body")).is_some();
        let mut wrong = Vec::new();
        match self.max_body {
            Some(asked) if says_max_body && asked != config.http.max_body_bytes => {
                wrong.push("environment: MCP_MAX_REQUEST_SIZE_MB is not what http.max_body says; unset it".to_owned());
            }
            Some(asked) => config.http.max_body_bytes = asked,
            None => {}
        }
        config.ssh.key_variables.clone_from(&self.files);
        match &self.targets_file {
            Some(asked) if config.targets_file.as_ref().is_some_and(|file| file != asked) => {
                wrong.push(
                    "environment: SYSTEMMANAGER_TARGETS_CONFIG is not what targets_file says; unset it".to_owned(),
                );
            }
            Some(asked) => config.targets_file = Some(asked.clone()),
            None => {}
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Takes the targets of a registry file into `config`.
pub(super) fn register(config: &mut Config, path: &Path, bytes: &[u8]) -> Result<(), Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![format!("{}: {error}", path.display())])?;
    let home = EngagementId::from("default");
    let targets =
        read_registry(path, text, &home, &config.engagement_ids()).map_err(|problems| each_line(&problems))?;
    config.register(targets).map_err(|id| {
        vec![format!("{}: target {id} is configured already: an id stands in one place only", path.display())]
    })
}

/// The exit for these problems.
pub(super) fn invalid(problems: Vec<String>) -> Exit {
    Exit::with(3, anyhow!("the configuration is not valid\n{}", problems.join("\n")))
}
