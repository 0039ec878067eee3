//! What runs that died leave is swept by the next; what belongs to one that lives is left alone.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use crate::{
    lab::is_skipped,
    run::{NAMESPACES, directory, ip, prefix, sweep},
};

/// A run as one that was killed leaves it: a namespace, a process in it, a directory.
struct Leftovers {
    pid: u32,
    namespace: String,
    inhabitant: Child,
}

impl Leftovers {
    fn of(pid: u32) -> Self {
        let namespace = format!("{}alice", prefix(pid));
        ip(&["netns", "add", &namespace]);
        let inhabitant = Command::new("ip").args(["netns", "exec", &namespace, "sleep", "600"]).spawn().unwrap();
        // `ip` enters the namespace before it turns into the program.
        let name = format!("/proc/{}/comm", inhabitant.id());
        crate::wait::until("it has entered", || fs::read_to_string(&name).unwrap() == "sleep\n");
        fs::create_dir_all(directory(pid).join("alice")).unwrap();
        fs::write(directory(pid).join("alice/key"), "secret").unwrap();
        Self { pid, namespace, inhabitant }
    }

    fn are_there(&mut self) -> [bool; 3] {
        [
            Path::new(NAMESPACES).join(&self.namespace).exists(),
            self.inhabitant.try_wait().unwrap().is_none(),
            directory(self.pid).exists(),
        ]
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let _ = self.inhabitant.kill();
        let _ = self.inhabitant.wait();
    }
}

#[test]
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    if is_skipped() {
        return;
    }
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let (mut of_living, mut of_dead) = (Leftovers::of(owner.id()), Leftovers::of(dead.id()));
    assert_eq!((of_living.are_there(), of_dead.are_there()), ([true; 3], [true; 3]));
    sweep();
    assert_eq!((of_living.are_there(), of_dead.are_there()), ([true; 3], [false; 3]));
    // Once its owner is dead too, it goes as well.
    owner.kill().unwrap();
    owner.wait().unwrap();
    sweep();
    assert_eq!(of_living.are_there(), [false; 3]);
}
