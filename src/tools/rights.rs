//! What the tools that change a host share: the reason they ask for, the marks of a critical call, and the rights that
//! were missing. Parses text only; runs nothing and decides nothing.

use super::{ToolError, kit::plain};
use crate::model::{Effect, Operation};

/// Errors unless `text` says why something is wanted.
pub(super) fn reason(text: &str) -> Result<(), ToolError> {
    plain("reason", text, 500)?;
    if text.trim().chars().count() < 3 {
        return Err(ToolError::invalid("reason", "must say in 3 to 500 characters why this is wanted"));
    }
    Ok(())
}

/// `operation` with its reason, and as the read that a dry run is.
pub(super) fn marked(mut operation: Operation, reason: Option<String>, dry_run: bool) -> Operation {
    operation.reason = reason;
    operation.dry_run = dry_run;
    if dry_run {
        operation.effect = Effect::Read;
    }
    operation
}

/// The word that tells a script whether to change anything.
pub(super) fn mode_word(dry_run: bool) -> &'static str {
    if dry_run { "dry" } else { "run" }
}

/// Whether a program (or `sudo`) that ended with `status` said that it may not, in the English texts printed with
/// `LC_ALL=C`.
pub(super) fn denied(status: i32, errors: &str) -> bool {
    const TEXTS: &[&str] = &[
        "Access denied",
        "nteractive authentication required",
        "password is required",
        "not allowed",
        "may not run",
        "ermission denied",
        "are you root",
        "must be root",
        "Need to be root",
    ];
    TEXTS.iter().any(|text| errors.contains(text)) || (status == 127 && errors.contains("sudo"))
}

/// The refusal of a host whose login user may not run `command` (its words, the program by its full path).
pub(crate) fn missing_right(user: &str, command: &[&str]) -> ToolError {
    let line = sudoers_line(user, command);
    let program = command.first().copied().unwrap_or_default();
    ToolError::new("permission_denied", format!("{user} may not run {program} for this"))
        .hint(format!("add this line to sudoers on the target, and set its sudo to limited: {line}"))
}

/// The `sudoers(5)` line that allows exactly `command`. In arguments `,`, `:`, `=` and `#` are escaped there. They are
/// patterns besides, where a `\` takes the meaning from what follows: one that is meant stands as four, two of which
/// the file's reader leaves to the pattern.
pub(super) fn sudoers_line(user: &str, command: &[&str]) -> String {
    let mut line = format!("{user} ALL=(root) NOPASSWD:");
    for word in command {
        line.push(' ');
        for c in word.chars() {
            match c {
                '\\' => line.push_str(r"\\\"),
                ',' | ':' | '=' | '#' | '*' | '?' | '[' | ']' | '!' => line.push('\\'),
                _ => {}
            }
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something() {
        for text in ["", "  ", "ab", " a ", "a\nb c", "a\u{1b}[2J", &"x".repeat(501)] {
            assert!(reason(text).unwrap_err().message.contains("reason"), "{text:?}");
        }
        assert!(reason("why").is_ok());
    }

    #[test]
    fn sudoers_lines_are_exact() {
        assert_eq!(
            sudoers_line("ops", &["/usr/bin/systemctl", "mask", "--", r"a:b\x2d,c=d.service"]),
            r"ops ALL=(root) NOPASSWD: /usr/bin/systemctl mask -- a\:b\\\\x2d\,c\=d.service"
        );
    }

    #[test]
    fn what_says_no_is_told_from_what_fails() {
        assert!(denied(1, "sudo: a password is required\n"));
        assert!(denied(100, "E: Could not open lock file /x - open (13: Permission denied)\n"));
        assert!(denied(127, "sudo: not found"));
        assert!(!denied(100, "E: Unable to locate package x\n"));
        assert!(!denied(127, "apt-get: not found"));
    }
}
