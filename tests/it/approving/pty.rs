//! A program on a terminal: what it shows, what is typed to it, and whether it leaves the terminal as it found it.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, tcgetattr},
};

use crate::harness::eventually;

/// A program whose standard streams are one terminal; killed when dropped.
pub struct Pty {
    child: Child,
    keyboard: File,
    /// Our own end of what the program sees, which keeps the terminal there.
    line: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
    /// What was looked at already, in bytes.
    seen: usize,
}

impl Pty {
    pub fn run(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let before = tcgetattr(&line).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (keyboard, shown) = (File::from(master), Arc::new(Mutex::new(Vec::new())));
        let (mut screen, kept) = (keyboard.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, keyboard, line, before, shown, seen: 0 }
    }

    /// Types `text`.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it shows `wanted`, behind what was waited for before.
    pub async fn shows(&mut self, wanted: &str) {
        let (shown, seen) = (self.shown.clone(), self.seen);
        let place = || {
            let shown = shown.lock().unwrap();
            shown[seen..].windows(wanted.len()).position(|part| part == wanted.as_bytes())
        };
        eventually(&format!("it shows {wanted:?}"), async || place().is_some()).await;
        self.seen = seen + place().unwrap() + wanted.len();
    }

    /// All it showed so far.
    pub fn all(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Whether single keys are read: the program has the screen.
    pub fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.line).unwrap();
        now.local_modes != self.before.local_modes
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How it ended; the terminal must be as it was.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        eventually("it ends", async || child.lock().unwrap().try_wait().unwrap().is_some()).await;
        let status = self.child.wait().unwrap();
        let now = tcgetattr(&self.line).unwrap();
        let modes = |of: &Termios| (of.input_modes, of.output_modes, of.control_modes, of.local_modes);
        assert_eq!(modes(&now), modes(&self.before), "the terminal is not as it was: {}", self.all());
        status
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
