//! The terminal while somebody watches: what is typed, line by line or key by key, and a screen of our own that is
//! always given back. Knows nothing of what is shown.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    thread,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// The most that is read at once, in bytes: the longest line that the kernel edits.
const MOST: usize = 4096;
/// A screen of its own, without a cursor, on which long lines are cut and not wrapped.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// Somebody went away, or wants us to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("ended")]
pub(super) struct Ended;

/// What stands behind standard input and output.
pub(super) struct Terminal {
    /// Asks the thread that reads for one more piece.
    wanted: std::sync::mpsc::Sender<()>,
    typed: mpsc::Receiver<Vec<u8>>,
    /// A piece was asked for and has not come.
    waiting: bool,
    ends: [Signal; 3],
    resized: Signal,
}

impl Terminal {
    /// The terminal of this process.
    pub(super) fn open() -> io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = ends.map(signal);
        let (wanted, typed) = reader();
        Ok(Self {
            wanted,
            typed,
            waiting: false,
            ends: [interrupt?, terminate?, hangup?],
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// What is typed next; nothing after a change of size. Where this is dropped, nothing is lost.
    pub(super) async fn input(&mut self) -> Result<Vec<u8>, Ended> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.wanted.send(()).map_err(|_| Ended)?;
        }
        let [interrupt, terminate, hangup] = &mut self.ends;
        tokio::select! {
            _ = interrupt.recv() => Err(Ended),
            _ = terminate.recv() => Err(Ended),
            _ = hangup.recv() => Err(Ended),
            _ = self.resized.recv() => Ok(Vec::new()),
            bytes = self.typed.recv() => {
                self.waiting = false;
                bytes.ok_or(Ended)
            }
        }
    }

    /// The next line, as the terminal edits it, without blanks around it.
    pub(super) async fn line(&mut self) -> Result<String, Ended> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.input().await?);
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// Asks for a line.
    pub(super) async fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        let mut out = io::stdout().lock();
        write!(out, "{question}")?;
        out.flush()?;
        drop(out);
        Ok(self.line().await?)
    }

    /// A screen of our own until it is dropped. Keys that were typed before it are forgotten.
    pub(super) fn screen(&self) -> io::Result<Screen> {
        let input = io::stdin();
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        // From here on, the way back is taken whatever happens.
        let screen = Screen { before };
        tcsetattr(&input, OptionalActions::Flush, &raw)?;
        write(ENTER)?;
        Ok(screen)
    }
}

/// The terminal in the state in which single keys are read.
pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout().as_fd()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
            _ => (24, 80),
        }
    }

    /// Shows `lines` and nothing else.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\u{1b}[K")).collect();
        write(&format!("\u{1b}[H{}\u{1b}[J", lines.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Reads a piece of standard input whenever one is asked for, and not before: a piece that is read while keys are read
/// one by one is no line. In a thread of its own, as such a read cannot be given up.
fn reader() -> (std::sync::mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
    let (wanted, asked) = std::sync::mpsc::channel();
    let (pieces, typed) = mpsc::channel(1);
    thread::spawn(move || {
        while asked.recv().is_ok() {
            let mut bytes = vec![0; MOST];
            // Not through the standard library's buffer, which would keep a part back.
            let count = loop {
                match rustix::io::read(io::stdin(), &mut bytes) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) | Err(_) => return,
                    Ok(count) => break count,
                }
            };
            bytes.truncate(count);
            if pieces.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    (wanted, typed)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
