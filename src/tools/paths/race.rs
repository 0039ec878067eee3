//! Someone on the target exchanges a file and a link to a secret outside, and a directory and such a link, some
//! thousand times a second, while the scripts look and open: the secret is never read.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::sandbox::{SECRET, Sandbox};
use crate::{
    model::{Script, Template},
    tools::{
        file_delete::FileDelete, file_list::FileList, file_read::FileRead, file_search::FileSearch,
        file_write::FileWrite,
    },
};

/// Arguments: WAY ROUNDS ROOT. Opens `ROOT/swap`, or `ROOT/swap/secret` through the directory, again and again the
/// way the tools do, and prints the content each time it was let through.
const ROUNDS: Template = Template {
    id: "race.v1",
    body: concat!(
        super::walk!(),
        r#"
way=$1 rounds=$2 root=$3 passed=0 refused=0
walk "$root" "$root" || return
section content
while [ $((passed + refused)) -lt "$rounds" ]; do
    cd "$root"; at=$root name=swap
    if case $way in file) ;; *) at=$root/swap name=secret; enter ./swap;; esac && held "$at" "$name"
    then passed=$((passed + 1)); cat <&3
    else refused=$((refused + 1))
    fi
done
section counts
echo "$passed $refused"
"#
    ),
    stdin: false,
};

/// A root with `swap`, and what it is exchanged with beside it.
fn prepared(directory: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    if directory {
        fs::create_dir(sandbox.inside("swap")).unwrap();
        fs::write(sandbox.inside("swap/secret"), "harmless").unwrap();
        symlink("../outside/folder", sandbox.inside("other")).unwrap();
    } else {
        fs::write(sandbox.inside("swap"), "harmless").unwrap();
        symlink("../outside/secret", sandbox.inside("other")).unwrap();
    }
    sandbox
}

/// Runs `work` while `swap` and `other` are exchanged all the time.
fn while_exchanged<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            result
        });
        while !done.load(Ordering::Relaxed) {
            let exchanged =
                renameat_with(CWD, sandbox.inside("swap"), CWD, sandbox.inside("other"), RenameFlags::EXCHANGE);
            // A file that was deleted is put back by the test.
            assert!(exchanged.is_ok() || exchanged == Err(rustix::io::Errno::NOENT), "{exchanged:?}");
            // Leaves the processor to the script, whose every look takes several times as long.
            thread::park_timeout(Duration::from_micros(100));
        }
        match work.join().unwrap() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Whether there is a next round: after `rounds` only while nothing got through yet, and not for ever.
fn goes_on(round: &mut u32, rounds: u32, through: u32) -> bool {
    *round += 1;
    *round <= rounds || (through == 0 && *round <= 20 * rounds)
}

fn rounds(way: &str, rounds: u32) {
    let sandbox = prepared(way == "directory");
    let script = Script::new(&ROUNDS, [way, rounds.to_string().as_str(), sandbox.roots[0].to_str().unwrap()]);
    let output = while_exchanged(&sandbox, || sandbox.rig().execute(&script));
    let sections = output.sections();
    let [content, counts] = sections.as_slice() else { panic!("{}", output.stdout.text()) };
    let counts: Vec<u32> = counts.text().split_whitespace().map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 0 && counts[1] > 0, "passed and refused, so there was a race: {counts:?}");
    assert_eq!(counts.iter().sum::<u32>(), rounds);
    assert_eq!(content.text(), "harmless".repeat(counts[0] as usize));
}

fn hex(content: &[u8]) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, content);
    crate::model::hex(sum.as_ref())
}

#[test]
fn a_file_exchanged_for_a_link_never_gives_the_secret() {
    rounds("file", 6000);
}

#[test]
fn a_directory_exchanged_for_a_link_never_gives_the_secret() {
    rounds("directory", 4000);
}

#[test]
fn whole_calls_in_the_race_never_give_the_secret() {
    let mut answered = 0;
    let harmless = hex(b"harmless");
    assert_ne!(harmless, hex(SECRET.as_bytes()));
    for (directory, path) in [(false, "swap"), (true, "swap/secret")] {
        let sandbox = prepared(directory);
        while_exchanged(&sandbox, || {
            for _ in 0..60 {
                match sandbox.call(&FileRead, json!({ "path": sandbox.arg(path) })) {
                    Ok(content) => {
                        answered += 1;
                        assert_eq!(content.data["content"], "harmless");
                    }
                    Err(error) => {
                        assert!(["outside_roots", "permission_denied", "not_found"].contains(&error.code), "{error:?}")
                    }
                }
                let arguments = json!({ "path": sandbox.roots[0], "depth": 2, "checksum": true });
                let listed = sandbox.call(&FileList, arguments).unwrap().data;
                for entry in listed["entries"].as_array().unwrap() {
                    assert!(entry["type"] != "file" || entry["size"] == "harmless".len(), "{entry}");
                    assert!(entry.get("sha256").is_none_or(|sum| *sum == harmless), "{entry}");
                }
            }
        });
    }
    assert!(answered > 0, "no call got through, so nothing was raced");
}

/// What stands outside is what stood there, and nothing came to it.
fn outside_is_untouched(sandbox: &Sandbox) {
    let names = |path: &str| fs::read_dir(sandbox.beside(path)).unwrap().count();
    assert_eq!((names("outside"), names("outside/folder")), (2, 1));
    for path in ["outside/secret", "outside/folder/secret"] {
        assert_eq!(fs::read_to_string(sandbox.beside(path)).unwrap(), SECRET);
    }
}

/// Refusals that a race may end in.
const RACED: [&str; 6] =
    ["outside_roots", "permission_denied", "not_found", "symlink", "precondition_failed", "other_filesystem"];

#[test]
fn p71_writes_in_the_race_never_leave_the_root() {
    let mut written = 0;
    for (directory, path) in [(false, "swap"), (true, "swap/secret"), (true, "swap/new")] {
        let sandbox = prepared(directory);
        while_exchanged(&sandbox, || {
            let mut round = 0;
            while goes_on(&mut round, 60, written) {
                let content = format!("written {round}");
                let arguments = json!({"path": sandbox.arg(path), "content": content, "reason": "a race"});
                match sandbox.call(&FileWrite, arguments) {
                    Ok(content) => {
                        written += 1;
                        assert_ne!(content.data["before_sha256"], hex(SECRET.as_bytes()));
                    }
                    Err(error) => assert!(RACED.contains(&error.code), "{error:?}"),
                }
            }
        });
        outside_is_untouched(&sandbox);
        for folder in [sandbox.roots[0].clone(), sandbox.inside("swap"), sandbox.inside("other")] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let left = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(left.filter(|name| name.starts_with(".tailops-")).collect::<Vec<_>>(), Vec::<String>::new());
        }
    }
    assert!(written > 0, "no write got through, so nothing was raced");
}

#[test]
fn p71_deletes_in_the_race_take_nothing_from_outside() {
    let mut deleted = 0;
    for (directory, path) in [(false, "swap"), (true, "swap/secret")] {
        let sandbox = prepared(directory);
        while_exchanged(&sandbox, || {
            let mut round = 0;
            while goes_on(&mut round, 60, deleted) {
                match sandbox
                    .call(&FileDelete, json!({"path": sandbox.arg(path), "dry_run": false, "reason": "a race"}))
                {
                    Ok(content) => {
                        deleted += 1;
                        assert_eq!(fs::read_to_string(content.data["trash"].as_str().unwrap()).unwrap(), "harmless");
                        // Put back where the directory or the name is now, never through the link.
                        fs::rename(content.data["trash"].as_str().unwrap(), sandbox.inside("again")).unwrap();
                        let place = if directory {
                            ["swap", "other"]
                                .map(|name| sandbox.inside(name))
                                .into_iter()
                                .find(|place| !place.is_symlink())
                                .map(|place| place.join("secret"))
                        } else {
                            ["swap", "other"]
                                .map(|name| sandbox.inside(name))
                                .into_iter()
                                .find(|place| fs::symlink_metadata(place).is_err())
                        };
                        let Some(place) = place else { continue };
                        let _ = renameat_with(CWD, sandbox.inside("again"), CWD, place, RenameFlags::NOREPLACE);
                    }
                    Err(error) => assert!(RACED.contains(&error.code), "{error:?}"),
                }
            }
        });
        outside_is_untouched(&sandbox);
        let trash = sandbox.inside(".tailops-trash");
        if trash.exists() {
            let left: Vec<_> = fs::read_dir(trash).unwrap().map(|entry| entry.unwrap()).collect();
            assert!(left.iter().all(|entry| !entry.file_type().unwrap().is_symlink()), "{left:?}");
        }
    }
    assert!(deleted > 0, "no delete got through, so nothing was raced");
}

#[test]
fn p71_searches_in_the_race_show_nothing_from_outside() {
    let mut shown = 0;
    for directory in [false, true] {
        let sandbox = prepared(directory);
        while_exchanged(&sandbox, || {
            let mut round = 0;
            while goes_on(&mut round, 40, shown) {
                // Both the harmless content and the secret have this letter.
                let content = sandbox.call(&FileSearch, json!({"root": sandbox.roots[0], "contains": "e"})).unwrap();
                for found in content.data["matches"].as_array().unwrap() {
                    shown += 1;
                    assert_eq!(found["text"], "harmless");
                }
            }
        });
    }
    assert!(shown > 0, "nothing was found, so nothing was raced");
}
