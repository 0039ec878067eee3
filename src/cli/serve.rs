//! `tailops serve`.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit,
    client::bridge_line,
    data_directory, dev_approver, environment, local_user, logging, node, reload, say,
    sources::{Sources, invalid, register},
};
use crate::{
    app::{App, open_directory},
    audit::Audit,
    auth::{Binding, MintRequest, mint},
    config::{Config, Node},
    model::{Clock, Scope, ScopeSet, SystemClock},
    store::DirectoryError,
    tailnet::{self, BindError, Embedded, Host, JoinError, Loopback},
};

/// How long a token that `serve --dev` made lives.
const DEV_TOKEN: Duration = Duration::from_secs(24 * 3600);
/// Where `serve --dev` listens.
const DEV_LISTEN: &str = "127.0.0.1:8080";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// For development: loopback, this machine as target, a fresh token
    #[arg(long, required_unless_present = "config", conflicts_with = "config")]
    dev: bool,
    /// Where to listen in development
    #[arg(long, value_name = "ADDR", default_value = DEV_LISTEN, conflicts_with = "config")]
    listen: SocketAddr,
    /// Run this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Refuse a configuration that was altered: the digest that `tailops config pin` prints
    #[arg(long, value_name = "HEX", requires = "config", value_parser = digest)]
    config_sha256: Option<String>,
}

fn digest(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err("must be the 64 hexadecimal digits that `tailops config pin --print` shows".to_owned())
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let environment = environment::read(variables()).map_err(invalid)?;
    // Accepts connections, writes the record and follows the clock; calls run on the threads of `http`.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match arguments.config {
            Some(file) => {
                let directory = directory.map(Path::to_owned);
                let sources = Sources { file, directory, policies: None, pin: arguments.config_sha256, environment };
                let config = sources.read_to_serve().map_err(invalid)?;
                serve(&config, &sources.environment.warnings, Some(&sources)).await
            }
            None => {
                let directory = data_directory(directory)?;
                crate::store::prepare_directory(&directory).map_err(in_use)?;
                // File roots are compared with what the kernel says, which has no links in it.
                let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
                let mut config = Config::development(directory, arguments.listen);
                dev_approver::configure(&mut config);
                environment.apply(&mut config, "").map_err(invalid)?;
                if let Some(file) = config.targets_file.clone() {
                    let text = fs::read(&file).with_context(|| file.display().to_string());
                    let text = text.map_err(|error| Exit::with(3, error))?;
                    register(&mut config, &file, &text).map_err(invalid)?;
                }
                serve(&config, &environment.warnings, None).await
            }
        }
    })
}

/// The environment of this process.
fn variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Serves `config`, which came from `sources`, or is that of development.
async fn serve(config: &Config, warnings: &[String], sources: Option<&Sources>) -> Result<(), Exit> {
    let dev = sources.is_none();
    logging::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Before the lock names this process: `tailops reload` must not end a service that is starting.
    let mut hangup = signal(SignalKind::hangup())?;
    let lock = open_directory(&config.data_dir).map_err(in_use)?;
    let node = join(config).await?;
    if dev {
        let files = config.data_dir.join("files");
        DirBuilder::new().recursive(true).mode(0o700).create(&files).with_context(|| files.display().to_string())?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut app = App::start(config, node.clone(), clock.clone(), lock).await.map_err(|error| {
        let code = if error.is_of_configuration() { 3 } else { 1 };
        Exit::with(code, error)
    })?;
    let addresses: Vec<String> = app.addresses().iter().map(SocketAddr::to_string).collect();
    tracing::info!(addresses = addresses.join(" "), profile = config.profile.as_str(), "serving");
    if dev {
        let token = dev_token(config, &app, clock).await?;
        // Without it everything but agreeing works.
        if let Err(error) = dev_approver::enrol(config, &app).await {
            tracing::warn!(%error, "the approver of development has no key that counts");
        }
        // A reader that went away (`| head`) does not end the service.
        if let Err(error) = introduce(config, addresses.first().map_or("", String::as_str), &token) {
            tracing::warn!(%error, "the introduction could not be printed");
        }
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // A service of development whose terminal is gone stops, as it would without us.
            Some(()) = hangup.recv() => if !reload::on_hangup(&app, sources).await { break },
            error = app.failed() => {
                app.stop().await;
                node.stop().await;
                return Err(error.into());
            }
        }
    }
    tracing::info!("stopping: calls that run are brought to their end; a second signal stops at once");
    let stopped = async {
        app.stop().await;
        node.stop().await;
    };
    tokio::select! {
        () = stopped => Ok(()),
        _ = terminate.recv() => Err(anyhow::anyhow!("stopped before every call had ended").into()),
        _ = interrupt.recv() => Err(anyhow::anyhow!("stopped before every call had ended").into()),
    }
}

/// The node of the configured mode, listening.
async fn join(config: &Config) -> Result<Arc<dyn tailnet::Node>, Exit> {
    match &config.node {
        Node::Loopback { listen } => {
            let node = Loopback::bind(listen).await.map_err(|error| {
                let code = if matches!(error, BindError::InUse { .. }) { 4 } else { 3 };
                Exit::with(code, error)
            })?;
            Ok(Arc::new(node))
        }
        Node::Host(settings) => {
            let node = Host::join(settings, &config.tailnet).await.map_err(|error| {
                let code = if matches!(error, JoinError::InUse(_)) { 4 } else { 1 };
                Exit::with(code, error)
            })?;
            Ok(Arc::new(node))
        }
        Node::Embedded(settings) => {
            let (launch, credentials) = node::launch()?;
            let joined =
                Embedded::start(settings, &config.tailnet, &config.data_dir, credentials.as_deref(), launch).await;
            Ok(Arc::new(joined.map_err(|error| Exit::with(3, error))?))
        }
    }
}

fn in_use(error: DirectoryError) -> Exit {
    let code = if matches!(error, DirectoryError::InUse { .. }) { 4 } else { 1 };
    Exit::with(code, error)
}

/// A fresh token for the local user, also in `DIR/dev-token`.
async fn dev_token(config: &Config, app: &App, clock: Arc<dyn Clock>) -> anyhow::Result<SecretString> {
    let request = MintRequest {
        subject: "dev".to_owned(),
        owner: local_user(),
        scopes: ScopeSet::new([Scope::Admin]),
        engagement: "default".into(),
        targets: None,
        tools: None,
        paths: None,
        ttl: DEV_TOKEN,
        binding: Binding::LocalUser(rustix::process::geteuid().as_raw()),
    };
    let caps = (config.profile.as_str(), config.profile.max_token_ttl());
    let minted = mint(app.store(), &config.data_dir, request, caps, clock.now()).await?;
    let details = serde_json::to_value(&minted.claims)?.as_object().cloned().unwrap_or_default();
    Audit::administered(app.store(), clock, "token.mint", &local_user(), details).await?;
    let path = config.data_dir.join("dev-token");
    write_private(&path, minted.token.expose_secret()).with_context(|| path.display().to_string())?;
    Ok(minted.token)
}

/// Replaces `path` in one step; never readable by others, not even for a moment.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn introduce(config: &Config, address: &str, token: &SecretString) -> anyhow::Result<()> {
    let directory = config.data_dir.display();
    let bridge = bridge_line(&format!("http://{address}/mcp"), &config.data_dir.join("dev-token"))?;
    let token = token.expose_secret();
    say(format_args!(
        "\
tailops is ready: http://{address}/mcp
  data       {directory}
  target     local (this machine; files: {directory}/files and /var/log)
  token      {token}
             (also in {directory}/dev-token; works from your own local user for 24 h)

Connect Claude Code; `tailops client --help` for others:
  claude mcp add tailops -- {bridge}

Three things to ask your agent:
  What is this machine doing right now? Use tailops.
  Which files under /var/log grew today, and what do their last lines say?
  Write hello.txt to {directory}/files with tailops, and delete it again.

Deleting is critical: it waits until a person looked at it and said yes. That is you:
  tailops watch --data-dir {directory}
Your yes is signed with the key approver_ed25519 there. In development, an agent that runs
programs as you can reach that key as well, and agree to what it asks for itself.

Look at the record:  tailops audit export --data-dir {directory}
Stop with Ctrl-C."
    ))?;
    Ok(())
}
