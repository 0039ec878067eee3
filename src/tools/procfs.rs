//! What scripts bring back from `/proc` and the passwd database, as values. Answers for reading it whatever it holds;
//! never panics on it and never turns an unknown into a zero.

use std::{borrow::Cow, collections::BTreeMap};

use super::ToolError;
use crate::model::{Missing, ScriptOutput, Section};

/// The sections of one script's output. Of two with one name the first counts.
pub(super) struct Parts {
    sections: Vec<Section>,
}

impl Parts {
    /// Errors if the script gave no section at all: then it did not run, and the reason is on standard error.
    pub(super) fn of(output: &ScriptOutput) -> Result<Self, ToolError> {
        let sections = output.sections();
        if sections.is_empty() {
            let stderr: String = output.stderr.text().trim().chars().take(200).collect();
            return Err(ToolError::unreadable(&format!("the script gave nothing ({stderr})")));
        }
        Ok(Self { sections })
    }

    /// The text of section `name`; none where it is missing or was not opened.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        section.content.is_ok().then(|| section.text())
    }

    /// Why section `name` is missing, if the script said so.
    pub(super) fn reason(&self, name: &str) -> Option<&str> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        section.content.as_ref().err().map(String::as_str)
    }

    /// Everything the script said is missing.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let reasons = self.sections.iter().filter_map(|section| Some((section, section.content.as_ref().err()?)));
        reasons.map(|(section, reason)| Missing { section: section.name.clone(), reason: reason.clone() }).collect()
    }
}

/// One `KEY VALUE` line a key; of two the first counts. Lines without a value are left out.
pub(super) fn pairs(text: &str) -> BTreeMap<&str, &str> {
    let mut pairs = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if !value.trim().is_empty() {
            pairs.entry(key).or_insert(value.trim());
        }
    }
    pairs
}

/// The fields of `/proc/PID/stat` that tools use; proc(5) names and counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    /// The name of the command, at most 15 bytes; it may hold spaces and parentheses.
    pub(super) comm: String,
    /// One letter.
    pub(super) state: char,
    pub(super) ppid: u32,
    /// Whether it is a thread of the kernel.
    pub(super) kernel: bool,
    pub(super) threads: u32,
    /// When it started, in clock ticks since boot. With the pid it names one process for good.
    pub(super) start_ticks: u64,
    /// Resident memory, in pages.
    pub(super) rss_pages: u64,
}

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Stat {
    /// Reads one line. The name ends at the last `)`, for it may hold others.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field 3 of proc(5) is the first behind the name.
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let flags: u64 = field(9)?.parse().ok()?;
        Some(Self {
            pid: pid.trim().parse().ok()?,
            comm: comm.to_owned(),
            state: field(3)?.chars().next()?,
            ppid: field(4)?.parse().ok()?,
            kernel: flags & KERNEL_THREAD != 0,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            rss_pages: field(24)?.parse().ok()?,
        })
    }

    /// What to show as the command line: the arguments, or the name in brackets where there are none (kernel threads,
    /// zombies).
    pub(super) fn command(&self, arguments: Option<&str>) -> String {
        match arguments.map(str::trim) {
            Some(arguments) if !arguments.is_empty() => capped(arguments, 512),
            _ => format!("[{}]", self.comm),
        }
    }
}

/// The word for a state letter of `/proc/PID/stat`.
pub(super) fn state_word(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "uninterruptible",
        'Z' => "zombie",
        'T' => "stopped",
        't' => "traced",
        'I' => "idle",
        'X' | 'x' => "dead",
        _ => "other",
    }
}

/// `text` in at most `most` bytes, with `…` at the end where something was cut.
pub(super) fn capped(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..cut).unwrap_or_default())
}

/// User names by uid, from lines of passwd(5).
pub(super) fn users(text: &str) -> BTreeMap<u32, String> {
    let mut users = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// Rounded to one decimal.
pub(super) fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = "S 1 7 7 0 -1 4194560 99 0 0 0 12 5 0 0 20 0 3 0 267791 3133440 388 184467440737 1 1";

    #[test]
    fn a_name_may_hold_spaces_parentheses_and_newlines() {
        for name in ["sh", "a b", "(x)", "x) R 1 (y", ")", "", "a\nb", "a\\nb"] {
            let stat = Stat::parse(&format!("42 ({name}) {TAIL}")).unwrap();
            assert_eq!((stat.pid, stat.comm.as_str(), stat.state, stat.ppid), (42, name, 'S', 1));
            assert_eq!((stat.threads, stat.start_ticks, stat.rss_pages, stat.kernel), (3, 267_791, 388, false));
        }
        let kernel = format!("2 (kthreadd) {}", TAIL.replace("4194560", "2129984"));
        assert!(Stat::parse(&kernel).unwrap().kernel);
    }

    #[test]
    fn what_is_not_a_stat_line_is_refused() {
        for line in ["", "42", "42 (x", "42 (x)", "42 (x) S 1", "x (x) S 1 7 7", "-1 (x) S 1 7 7 0 -1 0"] {
            assert_eq!(Stat::parse(line), None, "{line}");
        }
        assert_eq!(Stat::parse(&format!("42 (x) {}", TAIL.replace("267791", "later"))), None);
    }

    #[test]
    fn commands_are_cut_at_a_character() {
        let stat = Stat::parse(&format!("42 (x) {TAIL}")).unwrap();
        assert_eq!(stat.command(None), "[x]");
        assert_eq!(stat.command(Some("  ")), "[x]");
        let long = stat.command(Some(&"é".repeat(400)));
        assert!(long.len() <= 512 && long.ends_with("é…"), "{long}");
    }

    #[test]
    fn broken_passwd_lines_name_no_one() {
        let users = users("root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:abc\nother:x:0:\nweb:x:33:33::/:/x\n");
        assert_eq!(users, BTreeMap::from([(0, "root".to_owned()), (33, "web".to_owned())]));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*", most in 0usize..20) {
            let _ = Stat::parse(&text);
            let _ = users(&text);
            let _ = pairs(&text);
            prop_assert!(capped(&text, most).len() <= most.max('…'.len_utf8()));
        }
    }
}
