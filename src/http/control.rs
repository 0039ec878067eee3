//! The control socket: how people on the gateway's own host reach the running service. A Unix socket in the data
//! directory, for the service's own user and root as the kernel names them; no token and no network lead here.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::FileTypeExt, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Json, Router, extract::State, middleware, routing::get};
use futures_util::future::BoxFuture;
use hyper::{Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::api::{self, Desk};
use crate::{approval::Person, model::Report, store::DirectoryLock};

/// The socket's name in the data directory.
pub const CONTROL: &str = "control.sock";

/// The most connections at the same time; a further one waits.
const MOST: usize = 8;
/// The longest a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// The longest one connection may last.
const DEADLINE: Duration = Duration::from_secs(60);
/// The longest path that the kernel takes as a socket's name.
const LONGEST_NAME: usize = 107;

/// Looks at the whole gateway.
pub type Reporter = Arc<dyn Fn() -> BoxFuture<'static, Report> + Send + Sync>;

/// The listening socket; its file goes with it.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens in `directory`. `_lock` is that directory's: whatever socket lies there is then one that a dead service
    /// left, and is replaced. Anything else in its place is an error.
    pub fn listen(directory: &Path, _lock: &DirectoryLock) -> io::Result<Self> {
        let path = directory.join(CONTROL);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what lies there is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = at_socket(&path, |name| UnixListener::bind(name))?;
        // Nobody else can enter the directory, so nobody connects before this.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves the report and the people's API until `stop`, then lets requests in flight end within their deadline.
    pub async fn serve(self, reporter: Reporter, desk: Desk, stop: CancellationToken) {
        let people = api::router(desk).fallback(async || api::not_found()).layer(middleware::from_fn(api::on_host));
        let router = Router::new().route("/v1/report", get(report)).with_state(reporter).merge(people);
        let (open, places) = (TaskTracker::new(), Arc::new(Semaphore::new(MOST)));
        while let Some(Ok(place)) = stop.run_until_cancelled(places.clone().acquire_owned()).await {
            let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await else { break };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    open.spawn(async move {
                        let _place = place;
                        if tokio::time::timeout(DEADLINE, answer(stream, router, stop)).await.is_err() {
                            tracing::debug!("a connection of the control socket took too long");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    // Most likely no file is left to open: that passes.
                    stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
                }
            }
        }
        open.close();
        open.wait().await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket's file could not be removed");
        }
    }
}

/// Calls `with` a name of `path` that the kernel takes, however long the path is.
pub fn at_socket<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST_NAME {
        return with(path);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return with(path) };
    let directory = fs::File::open(directory)?;
    with(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

async fn answer(stream: UnixStream, router: Router, stop: CancellationToken) {
    let own = rustix::process::geteuid().as_raw();
    let known = stream.peer_cred().map(|peer| peer.uid());
    let admitted = known.as_ref().ok().copied().filter(|uid| *uid == own || *uid == 0);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 << 10);
    let io = TokioIo::new(stream);
    let result = if let Some(uid) = admitted {
        let router = router.layer(Extension(Person::on_host(uid, &name_of(uid))));
        let served = builder.serve_connection(io, TowerToHyperService::new(router));
        let mut served = std::pin::pin!(served);
        tokio::select! {
            result = served.as_mut() => result,
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    } else {
        tracing::warn!(uid = known.ok(), "another user was turned away from the control socket");
        builder.keep_alive(false);
        builder.serve_connection(io, service_fn(turn_away)).await
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection of the control socket ended");
    }
}

/// The name that the passwd database has for `uid`, or its number: who they are in the log and to approvals.
fn name_of(uid: u32) -> String {
    let user = uzers::get_user_by_uid(uid);
    user.map_or_else(|| format!("uid:{uid}"), |user| user.name().to_string_lossy().into_owned())
}

async fn turn_away(_: hyper::Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
    let mut response = Response::new("this socket is for the service's own user and root\n".to_owned());
    *response.status_mut() = StatusCode::FORBIDDEN;
    Ok(response)
}

async fn report(State(reporter): State<Reporter>) -> Json<Report> {
    Json(reporter().await)
}
