//! What the SSH server for tests runs: a command line as sshd would, or a function in its place.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use russh::{
    ChannelId, ChannelWriteHalf,
    server::{self, Msg},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Settings};

/// The id of a process group, once there is one.
pub(super) type Group = Arc<Mutex<Option<rustix::process::Pid>>>;

/// Where the output of a command goes. As sshd does, it takes no more than the other end has room for: what it took
/// besides would be left over at the channel's end, and the library then sends nothing more on the whole connection.
pub(super) struct Out {
    pub(super) write: ChannelWriteHalf<Msg>,
    pub(super) closed: CancellationToken,
}

impl Out {
    /// Whether all of it was taken; not once the channel is closed.
    async fn send(&self, bytes: Vec<u8>, ext: Option<u32>) -> bool {
        let sent = async {
            match ext {
                None => self.write.data_bytes(bytes).await,
                Some(ext) => self.write.extended_data_bytes(ext, bytes).await,
            }
        };
        tokio::select! {
            sent = sent => sent.is_ok(),
            () = self.closed.cancelled() => false,
        }
    }
}

/// Answers `line` and its whole input by the function; returns the exit status.
pub(super) async fn answered(
    answer: &Answer,
    line: &str,
    mut received: mpsc::UnboundedReceiver<Vec<u8>>,
    out: &Out,
) -> u32 {
    let mut input = Vec::new();
    while let Some(bytes) = received.recv().await {
        input.extend(bytes);
    }
    let (output, status) = answer(line, &input);
    for chunk in output.chunks(32 << 10) {
        if !out.send(chunk.to_vec(), None).await {
            break;
        }
    }
    status
}

/// Runs `line` as sshd would: by the login shell, in a process group of its own.
pub(super) async fn ran(
    line: &str,
    mut received: mpsc::UnboundedReceiver<Vec<u8>>,
    (handle, channel, out): (&server::Handle, ChannelId, &Out),
    (settings, group): (&Settings, Group),
) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).unwrap()));
    *group.lock().unwrap() = id;
    let (mut stdin, stdout, stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let feed = tokio::spawn(async move {
        while let Some(bytes) = received.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    if settings.cuts {
        let _ = handle.disconnect(russh::Disconnect::ByApplication, String::new(), String::new()).await;
    }
    let stdout = pass_on(stdout, out, None, settings.piece);
    let stderr = pass_on(stderr, out, Some(1), settings.piece);
    let ended = async {
        let status = child.wait().await.unwrap();
        // From now on the id may be another's.
        *group.lock().unwrap() = None;
        let _ = match told(status) {
            Ok(code) => handle.exit_status_request(channel, code).await,
            Err(signal) => handle.exit_signal_request(channel, signal, false, String::new(), String::new()).await,
        };
    };
    // Children may hold the streams open for as long as they live; sshd waits for them too.
    tokio::join!(stdout, stderr, ended);
    feed.abort();
}

/// What sshd says of how a command ended.
fn told(status: std::process::ExitStatus) -> Result<u32, russh::Sig> {
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        None => Ok(u32::try_from(status.code().unwrap()).unwrap()),
        Some(1) => Err(russh::Sig::HUP),
        Some(2) => Err(russh::Sig::INT),
        Some(6) => Err(russh::Sig::ABRT),
        Some(9) => Err(russh::Sig::KILL),
        Some(10) => Err(russh::Sig::USR1),
        Some(13) => Err(russh::Sig::PIPE),
        Some(15) => Err(russh::Sig::TERM),
        Some(other) => Err(russh::Sig::Custom(other.to_string())),
    }
}

/// Until its end, or until nobody takes it any more: whoever writes to it then is told by SIGPIPE.
async fn pass_on(mut from: impl AsyncReadExt + Unpin, out: &Out, ext: Option<u32>, piece: usize) {
    let mut buffer = vec![0; piece];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !out.send(buffer[..read].to_vec(), ext).await {
            return;
        }
    }
}
