//! Somebody on the host swaps directories and files for links to the outside, as fast as they can, while tools look and
//! write. What is outside is never shown and never written.

use serde_json::{Value, json};

use super::{Fleet, lend, of};
use crate::{host::Host, wait::until};

/// How often everything is swapped, at least.
const SWAPS: u64 = 10_000;
/// What must not be shown.
const SECRET: &str = "nobody-is-to-see-this";

/// Swaps until it is killed; says how often it did.
const SWAPPER: &str = r#"
chdir "/srv/files/race" or die;
my $swaps = 0;
while (1) {
    rename "open", "away"; symlink "/srv/outside", "open"; unlink "open"; rename "away", "open";
    rename "note", "kept"; symlink "/srv/outside/note", "note"; unlink "note"; rename "kept", "note";
    next if ++$swaps % 100;
    open my $file, ">", "/root/swaps"; print $file $swaps; close $file;
}
"#;

/// Everything that leads through what is swapped.
fn calls() -> [(&'static str, Value); 7] {
    let reason = "writing inside";
    [
        ("file_read", json!({"path": "/srv/files/race/open/note"})),
        ("file_read", json!({"path": "/srv/files/race/note"})),
        ("file_list", json!({"path": "/srv/files/race/open"})),
        ("file_list", json!({"path": "/srv/files", "depth": 3, "checksum": true})),
        ("file_search", json!({"root": "/srv/files/race", "contains": "is-to"})),
        ("file_write", json!({"path": "/srv/files/race/open/new", "content": "x", "reason": reason})),
        ("file_write", json!({"path": "/srv/files/race/note", "content": "inside\n", "reason": reason})),
    ]
}

/// Calls all of it until it was swapped often enough; how many calls were answered, and how many were refused.
fn look(fleet: &Fleet, host: &Host) -> [usize; 2] {
    let [mut answered, mut refused] = [0, 0];
    let enough = || host.sh("cat /root/swaps 2>/dev/null || echo 0").parse().unwrap_or(0) >= SWAPS;
    loop {
        let last = enough();
        for (tool, arguments) in calls() {
            let answer = fleet.call(tool, of(host, arguments));
            assert_eq!(answer.status, 200, "{}", answer.body);
            let text = answer.body.to_string();
            assert!(!text.contains(SECRET) && !text.contains("outside-only"), "{tool}: {text}");
            if answer.body["result"]["isError"] == true { refused += 1 } else { answered += 1 }
        }
        if last {
            return [answered, refused];
        }
    }
}

#[test]
fn links_that_are_swapped_in_lead_nowhere() {
    lend(|fleet| {
        let host = &fleet.web1;
        // The login user may read and write what is outside: it is not the file's mode that keeps it.
        host.sh(&format!(
            "rm -rf /srv/outside /srv/files/* /root/swaps; mkdir -p /srv/outside /srv/files/race/open
             echo '{SECRET}' | tee /srv/outside/note >/srv/outside/outside-only
             echo inside | tee /srv/files/race/note >/srv/files/race/open/note
             chown -R tailops: /srv/outside /srv/files"
        ));
        let outside = || host.sh("cd /srv/outside && find . -printf '%p %s %i %m\\n' | sort; cat note outside-only");
        let before = outside();
        host.put("/root/swapper", 0o600, SWAPPER.as_bytes());
        let swapper = host.keep_running("exec perl /root/swapper");
        until("it swaps", || host.try_sh("[ -s /root/swaps ]").status.success());
        let fleet = &*fleet;
        let counts = std::thread::scope(|scope| {
            let looking: Vec<_> = (0..3).map(|_| scope.spawn(|| look(fleet, host))).collect();
            looking.into_iter().map(|look| look.join().unwrap()).collect::<Vec<_>>()
        });
        host.sh("pkill -KILL -f '[/]root/swapper'");
        drop(swapper);
        assert_eq!(outside(), before);
        // It raced: some calls found things in their places, and some did not.
        let [answered, refused] = [0, 1].map(|at| counts.iter().map(|counts| counts[at]).sum::<usize>());
        println!("{answered} calls were answered and {refused} refused");
        assert!(answered > 0 && refused > 0, "{answered} were answered and {refused} refused");
        host.sh("rm -rf /srv/outside /srv/files/*");
    });
}
