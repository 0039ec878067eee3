//! How fast the guard reads, on one core: plain log text, log text with the usual share of secrets, and the texts that
//! cost it most. `docs/benchmarks.md` says what the lines mean. Never switches a detector off.

#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tailops::{
    config,
    guard::{Guard, GuardLimits},
};

/// How long one text is.
const SIZE: usize = 4 << 20;
/// Rounds over one text; the median counts.
const ROUNDS: usize = 9;

/// Lines as services write them, without anything the guard takes out.
const PLAIN: &[&str] = &[
    "Nov 21 08:00:01 web1 systemd[1]: Started nginx.service - A high performance web server and a reverse proxy server.",
    "Nov 21 08:00:02 web1 kernel: [  812.123456] eth0: Link is Up - 1000 Mbps/Full, flow control rx/tx",
    "10.0.0.5 - - [21/Nov/2026:08:33:19 +0000] \"GET /health HTTP/1.1\" 200 2 \"-\" \"curl/7.88.1\"",
    "192.0.2.17 - - [21/Nov/2026:08:33:20 +0000] \"GET /static/app.3c1f0c8c.js HTTP/2.0\" 200 48211 \"https://www.example.org/\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
    "{\"level\":\"info\",\"ts\":1700000000.123,\"caller\":\"server/http.go:214\",\"msg\":\"request\",\"status\":200,\"duration_ms\":12}",
    "2026-11-21T08:33:21.123456Z  INFO app::worker: job finished id=7c9e6679-7425-40de-944b-e07fc1f90ae7 took=1.204s rows=128",
    "Nov 21 08:00:05 web1 sshd[4242]: Connection from 203.0.113.9 port 40022 on 10.0.0.2 port 22",
    "Nov 21 08:00:06 web1 dockerd[512]: time=\"2026-11-21T08:00:06Z\" level=info msg=\"ignoring event\" container=3c1f0c8c2f5c4b0b8b1e",
];

/// The same, with secrets and personal data in one line of ten.
const SPIKED: &[&str] = &[
    "Nov 21 08:00:07 web1 app[812]: connecting with password=hunter2 to postgres://app:hunter2@db/app",
    "Nov 21 08:00:08 web1 postfix/smtp[813]: to=<alice@example.com>, relay=mx.example.org, status=sent",
];

/// Texts that make detectors work.
const WORST: &[(&str, &str)] = &[
    ("names", "password=\"x\" token=abc api_key: k "),
    ("headers", "authorization: bearer "),
    ("urls", "mysql://a:x/"),
    ("jwts", "eyJ"),
    ("digits", "4111 1111 1111 1112 "),
    ("base64", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYQUJDREVGR0hJSktMTU5PUFFS\n"),
    ("mails", "a@b."),
    ("commands", "curl -u "),
    ("injection", "ignore all "),
    ("armour", "-----BEGIN PRIVATE KEY-----\n"),
    ("escapes", "\u{1B}]"),
];

fn main() -> Result<()> {
    let mut rounds = ROUNDS;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => rounds = 3,
            // Cargo's own, to every bench target.
            "--bench" => {}
            other => bail!("unknown argument {other:?}; there is only --quick"),
        }
    }
    let limits = GuardLimits { max_string_bytes: 64 << 20, max_total_bytes: 256 << 20, ..GuardLimits::default() };
    let guard = Guard::new(limits, &config::Guard::default());

    let plain = filled(PLAIN.iter().copied().cycle());
    let cleaned = guard.text(&plain);
    ensure!(cleaned.text == plain && cleaned.redactions.is_empty(), "plain text was changed: {:?}", cleaned.redactions);
    println!("guard_mb_s {:.0}", rate(&guard, &plain, rounds));

    let lines = PLAIN.iter().chain(PLAIN).take(9);
    let spiked: Vec<&str> = SPIKED.iter().flat_map(|spike| lines.clone().chain([spike])).copied().collect();
    let spiked = filled(spiked.into_iter().cycle());
    ensure!(!guard.text(&spiked).redactions.is_empty(), "nothing was found");
    println!("guard_spiked_mb_s {:.0}", rate(&guard, &spiked, rounds));

    // One text as 64 KiB pieces, as replies hold them.
    for (name, piece) in WORST {
        let text = piece.repeat((64 << 10) / piece.len());
        println!("guard_worst_{name}_mb_s {:.1}", rate(&guard, &text, rounds));
    }
    Ok(())
}

fn filled<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::with_capacity(SIZE + 1024);
    for line in lines {
        if text.len() >= SIZE {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The median of the rounds, in 10^6 bytes a second.
#[expect(clippy::cast_precision_loss, reason = "sizes of texts in memory")]
fn rate(guard: &Guard, text: &str, rounds: usize) -> f64 {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(guard.text(std::hint::black_box(text)));
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times.get(rounds / 2).copied().unwrap_or_default();
    text.len() as f64 / 1e6 / median.as_secs_f64().max(1e-9)
}
