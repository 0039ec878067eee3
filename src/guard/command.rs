//! Passwords that programs take in ways of their own: `curl -u user:password`, `mysql -pPassword`, netrc lines, pgpass
//! lines. Answers for the options of known programs only.

use std::ops::Range;

use super::{
    name,
    secret::{Rank, Span},
};

/// The part of an option's value that is secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// What follows the first of this sign; nothing where there is none.
    Behind(char),
    /// What the option is glued to, as in `-pPassword`; alone it takes no value.
    Glued,
}
use Part::{Behind, Glued, Whole};

/// A program and its options that take a password.
struct Program {
    name: &'static str,
    options: &'static [(&'static str, Part)],
}

const CURL: &[(&str, Part)] = &[
    ("-u", Behind(':')),
    ("--user", Behind(':')),
    ("-U", Behind(':')),
    ("--proxy-user", Behind(':')),
    ("--oauth2-bearer", Whole),
];
const MYSQL: &[(&str, Part)] = &[("-p", Glued)];

const PROGRAMS: &[Program] = &[
    Program { name: "curl", options: CURL },
    Program { name: "mysql", options: MYSQL },
    Program { name: "mysqldump", options: MYSQL },
    Program { name: "mysqladmin", options: MYSQL },
    Program { name: "mariadb", options: MYSQL },
    Program { name: "mariadb-dump", options: MYSQL },
    Program { name: "sshpass", options: &[("-p", Whole), ("-p", Glued)] },
    Program { name: "redis-cli", options: &[("-a", Whole)] },
    Program { name: "mongo", options: &[("-p", Whole)] },
    Program { name: "mongosh", options: &[("-p", Whole)] },
    Program { name: "mongodump", options: &[("-p", Whole)] },
    Program { name: "ldapsearch", options: &[("-w", Whole)] },
    Program { name: "ldapmodify", options: &[("-w", Whole)] },
    Program { name: "ldapadd", options: &[("-w", Whole)] },
    Program { name: "docker login", options: &[("-p", Whole)] },
    Program { name: "podman login", options: &[("-p", Whole)] },
    Program { name: "helm registry login", options: &[("-p", Whole)] },
    Program { name: "az login", options: &[("-p", Whole)] },
    Program { name: "smbclient", options: &[("-U", Behind('%')), ("--user", Behind('%'))] },
    Program { name: "sqlcmd", options: &[("-P", Whole), ("-P", Glued)] },
    Program { name: "ipmitool", options: &[("-P", Whole)] },
    Program { name: "vault login", options: &[("login", Whole)] },
    Program { name: "kubectl create secret", options: &[("--from-literal", Behind('='))] },
    Program { name: "snmpwalk", options: &[("-c", Whole), ("-A", Whole), ("-X", Whole)] },
    Program { name: "snmpget", options: &[("-c", Whole), ("-A", Whole), ("-X", Whole)] },
];

/// What the detectors of this file look for: first the [`PROGRAMS`], then what [`at`] says.
pub(super) const ANCHORS: &[&str] = &[
    "curl",
    "mysql",
    "mysqldump",
    "mysqladmin",
    "mariadb",
    "mariadb-dump",
    "sshpass",
    "redis-cli",
    "mongo",
    "mongosh",
    "mongodump",
    "ldapsearch",
    "ldapmodify",
    "ldapadd",
    "docker login",
    "podman login",
    "helm registry login",
    "az login",
    "smbclient",
    "sqlcmd",
    "ipmitool",
    "vault login",
    "kubectl create secret",
    "snmpwalk",
    "snmpget", // programs
    "login ",
    ":5432:",
    ":5433:",
    ":6432:",
    "*:*:*:",
    "chpasswd",
    "configure set ",
    "identified by ",
];

/// How much of a command line is read.
const FAR: usize = 2048;
/// How much of any other line is read to either side.
const NEAR: usize = 256;

/// Adds the passwords of the command or line whose anchor, of this index, is at `hit`. Returns how far it read: an
/// anchor of a program inside that needs no other look.
pub(super) fn at(text: &str, index: usize, hit: Range<usize>, spans: &mut Vec<Span>) -> usize {
    if let Some(program) = PROGRAMS.get(index) {
        let before = text.as_bytes().get(hit.start.wrapping_sub(1)).copied().unwrap_or(b' ');
        let after = text.as_bytes().get(hit.end).copied().unwrap_or(b'\n');
        if before.is_ascii_alphanumeric()
            || matches!(before, b'_' | b'.')
            || !matches!(after, b' ' | b'\t' | b'"' | b'\'')
        {
            return hit.end;
        }
        // `vault login` takes its token behind itself.
        let takes = program.options.first().is_some_and(|(option, _)| *option == "login");
        let from = if takes { hit.end - "login".len() } else { hit.end };
        let end = line_end(text, hit.end, FAR);
        options(text, from..end, program, spans);
        return end;
    }
    match ANCHORS.get(index).copied().unwrap_or_default() {
        "login " => netrc(text, line_start(text, hit.start)..hit.start, hit.end, spans),
        "chpasswd" => chpasswd(text, line_start(text, hit.start)..hit.start, spans),
        "identified by " => {
            let quoted = text.as_bytes().get(hit.end).is_some_and(|byte| matches!(byte, b'\'' | b'"'));
            if let Some(value) = words(text, hit.end..line_end(text, hit.end, NEAR)).next().filter(|_| quoted) {
                push(text, value, "password", spans);
            }
        }
        "configure set " => {
            let mut words = words(text, hit.end..line_end(text, hit.end, NEAR));
            if let (Some(named), Some(value)) = (words.next(), words.next())
                && let Some(kind) = text.get(named).and_then(name::kind)
            {
                push(text, value, kind, spans);
            }
        }
        _ => pgpass(text, line_start(text, hit.start)..line_end(text, hit.end, NEAR), spans),
    }
    hit.end
}

fn line_start(text: &str, at: usize) -> usize {
    let head = text.get(text.floor_char_boundary(at.saturating_sub(NEAR))..at).unwrap_or_default();
    at - head.rfind('\n').map_or(head.len(), |feed| head.len() - feed - 1)
}

fn line_end(text: &str, at: usize, most: usize) -> usize {
    let tail = text.get(at..text.floor_char_boundary(at.saturating_add(most))).unwrap_or_default();
    at + tail.find('\n').unwrap_or(tail.len())
}

fn push(text: &str, range: Range<usize>, kind: &'static str, spans: &mut Vec<Span>) {
    if text.get(range.clone()).is_some_and(|value| !name::placeholder(value)) {
        spans.push(Span { range, kind, rank: Rank::Header });
    }
}

/// The words of a command line, each without its quotes.
fn words(text: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let rest = text.get(at..range.end)?;
        let trimmed = rest.trim_start_matches([' ', '\t', ',', '[', '\\']);
        let start = range.end - trimmed.len();
        let first = trimmed.chars().next()?;
        if let Some(quote) = Some(first).filter(|first| matches!(first, '"' | '\'')) {
            let body = trimmed.get(1..)?;
            let end = body.find(quote).unwrap_or(body.len());
            at = start + 1 + end + 1;
            return Some(start + 1..start + 1 + end);
        }
        let end = trimmed.find([' ', '\t', '"', '\'', ';', '|']).unwrap_or(trimmed.len()).max(1);
        at = start + end;
        Some(start..start + end)
    })
}

fn options(text: &str, range: Range<usize>, program: &Program, spans: &mut Vec<Span>) {
    let mut waiting = None;
    for word in words(text, range) {
        let Some(value) = text.get(word.clone()) else { continue };
        if let Some(part) = waiting.take() {
            if let Some(secret) = secret_of(value, part).filter(|_| !value.starts_with('-')) {
                push(text, word.start + secret.start..word.start + secret.end, "password", spans);
            }
            continue;
        }
        for (option, part) in program.options {
            let Some(rest) = value.strip_prefix(option) else { continue };
            let glued = word.start + option.len()..word.end;
            match part {
                Glued if rest.len() > 1 && !rest.starts_with('=') => push(text, glued, "password", spans),
                Glued => {}
                part if rest.is_empty() => waiting = Some(*part),
                part if rest.starts_with('=') || !option.starts_with("--") && option.starts_with('-') => {
                    let lead = usize::from(rest.starts_with('='));
                    if let Some(secret) = secret_of(rest.get(lead..).unwrap_or_default(), *part) {
                        let start = glued.start + lead;
                        push(text, start + secret.start..start + secret.end, "password", spans);
                    }
                }
                _ => {}
            }
        }
    }
}

fn secret_of(value: &str, part: Part) -> Option<Range<usize>> {
    let start = match part {
        Whole | Glued => 0,
        Behind(sign) => value.find(sign)? + sign.len_utf8(),
    };
    (start < value.len()).then_some(start..value.len())
}

/// Which part of `argument` is secret, where it stands behind `option` in the arguments of `program`.
pub(super) fn argument(program: &str, option: &str, argument: &str) -> Option<Range<usize>> {
    let name = program.rsplit('/').next().unwrap_or(program);
    let program = PROGRAMS.iter().find(|program| program.name == name)?;
    let (_, part) = program.options.iter().find(|(known, part)| *known == option && *part != Glued)?;
    secret_of(argument, *part)
}

/// `login user password secret` of a netrc file, on one line or on several.
fn netrc(text: &str, head: Range<usize>, from: usize, spans: &mut Vec<Span>) {
    let behind = text.get(from..text.floor_char_boundary(from.saturating_add(NEAR))).unwrap_or_default();
    let mut words = behind.split_ascii_whitespace();
    if let (Some(_), Some("password" | "passwd"), Some(secret)) = (words.next(), words.next(), words.next())
        // Prose goes on otherwise: "login failed password expired".
        && !name::prose(secret)
        && (text.get(head).is_some_and(file) || !secret.bytes().all(|byte| byte.is_ascii_lowercase()))
    {
        let start = secret.as_ptr().addr() - text.as_ptr().addr();
        push(text, start..start + secret.len(), "password", spans);
    }
}

/// Whether what stands before `login` is that of a netrc file.
fn file(head: &str) -> bool {
    let head = head.trim_start();
    head.starts_with("machine ") || head.starts_with("default ")
}

/// `echo 'root:secret' | chpasswd`.
fn chpasswd(text: &str, head: Range<usize>, spans: &mut Vec<Span>) {
    let Some(line) = text.get(head.clone()) else { return };
    let Some(pipe) = line.rfind('|') else { return };
    for word in words(text, head.start..head.start + pipe) {
        let value = text.get(word.clone()).unwrap_or_default();
        if let Some(secret) = secret_of(value, Behind(':')) {
            push(text, word.start + secret.start..word.end, "password", spans);
        }
    }
}

/// `host:5432:database:user:secret`, a line of its own.
fn pgpass(text: &str, line: Range<usize>, spans: &mut Vec<Span>) {
    let Some(whole) = text.get(line.clone()) else { return };
    if whole.contains([' ', '\t', '/', '"']) {
        return;
    }
    let mut fields = whole.splitn(5, ':');
    let port = fields.nth(1).is_some_and(|port| port == "*" || port.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(password) = fields.nth(2).filter(|_| port) {
        push(text, line.end - password.len()..line.end, "password", spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_anchors_stand_in_one_order() {
        for (program, anchor) in PROGRAMS.iter().zip(ANCHORS) {
            assert_eq!(program.name, *anchor);
        }
    }
}
