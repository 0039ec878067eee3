//! Path arguments of the file tools: which texts are accepted, which roots they lie under, and the part of the
//! scripts that resolves them on the target. Decides nothing about what a caller may do, and touches no file itself.

#[cfg(test)]
mod race;
#[cfg(test)]
pub(super) mod sandbox;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::{PlanContext, ToolError};
use crate::model::{ScriptOutput, Target};

/// The longest path, in bytes (Linux `PATH_MAX`).
const MOST_BYTES: usize = 4096;
/// The longest name in it, in bytes (Linux `NAME_MAX`).
const MOST_NAME_BYTES: usize = 255;

/// Where `file_delete` moves files to, in each root.
pub(super) const TRASH: &str = ".tailops-trash";

/// Characters that look like `/`, `\`, `.`, `%` or `~`, or that compatibility normalisation turns into a text with
/// one of them. Nothing here normalises, but a person who approves a path, or a program before us, may.
const LOOKALIKES: &[char] = &[
    '\u{2044}',
    '\u{2215}',
    '\u{2571}',
    '\u{27cb}',
    '\u{29f8}',
    '\u{ff0f}',
    '\u{2f03}',
    '\u{3033}',
    '\u{1735}',
    '\u{2100}',
    '\u{2101}',
    '\u{2105}',
    '\u{2106}',
    '\u{2216}',
    '\u{29f5}',
    '\u{29f9}',
    '\u{fe68}',
    '\u{ff3c}',
    '\u{2024}',
    '\u{2025}',
    '\u{2026}',
    '\u{fe19}',
    '\u{fe30}',
    '\u{fe52}',
    '\u{ff0e}',
    '\u{ff61}',
    '\u{3002}',
    '\u{0701}',
    '\u{0702}',
    '\u{06d4}',
    '\u{0660}',
    '\u{06f0}',
    '\u{a4f8}',
    '\u{a60e}',
    '\u{10a50}',
    '\u{2052}',
    '\u{fe6a}',
    '\u{ff05}',
    '\u{02dc}',
    '\u{223c}',
    '\u{ff5e}',
    '\u{0338}',
    '\u{fffd}',
];

/// Errors unless `path` is a plain absolute path: the text that the target gets is the place it names, for every
/// reader. The error names the argument `field`.
pub(super) fn plain_path(field: &str, path: &str) -> Result<(), ToolError> {
    let invalid = |wanted: &str| Err(ToolError::invalid(field, wanted));
    if path.len() > MOST_BYTES {
        return invalid("must be at most 4096 bytes long");
    }
    if path.chars().any(unseen) {
        return invalid("must not contain control, formatting or unusual space characters");
    }
    if path.contains('\\') {
        return invalid("must not contain a backslash");
    }
    if path.contains(LOOKALIKES) || path.contains(|c: char| ('\u{2488}'..='\u{249b}').contains(&c)) {
        return invalid("must not contain characters that look like / . \\ % or ~");
    }
    if percent_encoded(path) {
        return invalid("must not be percent-encoded; write the characters themselves");
    }
    let Some(names) = path.strip_prefix('/') else {
        return invalid("must be an absolute path: it starts with /");
    };
    if names.is_empty() {
        return Ok(());
    }
    names.split('/').try_for_each(|name| plain_name(name).or_else(invalid))
}

fn plain_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("must have neither an empty component nor a slash at the end"),
        "." | ".." => Err("must not have the component . or .."),
        _ if name.len() > MOST_NAME_BYTES => Err("must not have a component longer than 255 bytes"),
        _ if name.starts_with('~') => Err("must not have a component that starts with ~; nothing expands it"),
        _ if name.starts_with(' ') || name.ends_with([' ', '.']) => {
            Err("must not have a component that starts with a space or ends with a space or a dot")
        }
        // The kernel gives a removed file this ending, so such a name cannot be checked.
        _ if name.ends_with(" (deleted)") => Err("must not have a component that ends with \" (deleted)\""),
        _ => Ok(()),
    }
}

/// Control characters, and what no one sees: joiners, direction marks, tags, spaces other than U+0020.
fn unseen(c: char) -> bool {
    c.is_control()
        || (c != ' ' && c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether some decoder would take a part of `path` for an encoded character: `%2e`, `%252e`, `%u002e`.
fn percent_encoded(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| {
        let mut rest = rest.chars();
        match (rest.next(), rest.next()) {
            (Some('u' | 'U'), Some(second)) => second.is_ascii_hexdigit(),
            (Some(first), Some(second)) => first.is_ascii_hexdigit() && second.is_ascii_hexdigit(),
            _ => false,
        }
    })
}

/// The roots of `target`, as arguments for a script. Errors if it has none that can be passed.
pub(super) fn roots(target: &Target) -> Result<Vec<String>, ToolError> {
    // A root that is not UTF-8 cannot be named in a call; nothing under it is served.
    let roots: Vec<String> = target.roots.iter().filter_map(|root| root.to_str()).map(str::to_owned).collect();
    if roots.is_empty() {
        return Err(ToolError::new("outside_roots", format!("target {:?} has no file roots", target.id.as_str()))
            .hint("whoever runs the gateway can give the target roots in its configuration"));
    }
    Ok(roots)
}

/// The parts of the roots of `target` that the caller's token covers, as arguments for a script. Where it covers none of
/// them: the roots, which policy then refuses. Errors as [`roots`] does.
pub(super) fn reach(context: &PlanContext<'_>, target: &Target) -> Result<Vec<String>, ToolError> {
    let roots = roots(target)?;
    let Some(paths) = context.paths else { return Ok(roots) };
    let mut covered: Vec<String> =
        roots.iter().flat_map(|root| paths.iter().filter_map(|tree| tree.within(root))).map(str::to_owned).collect();
    covered.sort();
    covered.dedup();
    Ok(if covered.is_empty() { roots } else { covered })
}

/// Errors unless `path` is a plain path to something in a directory under the roots of `target`: not a root itself, nor
/// in the trash. Its directory and its name.
pub(super) fn file_in<'a>(field: &str, path: &'a str, target: &Target) -> Result<(&'a str, &'a str), ToolError> {
    plain_path(field, path)?;
    let roots = roots(target)?;
    under_roots(field, path, &roots)?;
    if path.split('/').any(|name| name == TRASH) {
        return Err(ToolError::invalid(field, format_args!("must not lie in the trash ({TRASH})"))
            .hint("what is in the trash is for people to restore or remove"));
    }
    let Some((directory, name)) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()) else {
        return Err(ToolError::invalid(field, "must be a file, not the root of the file system"));
    };
    let directory = if directory.is_empty() { "/" } else { directory };
    if !roots.iter().any(|root| Path::new(directory).starts_with(root)) {
        return Err(ToolError::invalid(field, "must be a file below a root, not the root itself"));
    }
    Ok((directory, name))
}

/// Errors unless `path`, as written, is one of `roots` or lies under one.
pub(super) fn under_roots(field: &str, path: &str, roots: &[String]) -> Result<(), ToolError> {
    // Compared by component: `/var/logs` does not lie under `/var/log`.
    if roots.iter().any(|root| Path::new(path).starts_with(root)) {
        return Ok(());
    }
    Err(ToolError::new("outside_roots", format!("`{field}`: {path:?} is outside the target's file roots"))
        .hint("call file_list without `path` to see the roots"))
}

/// The error for a path that the script refused with `reason`.
pub(super) fn refusal(reason: &str) -> ToolError {
    let (code, message, hint) = match reason {
        "not_found" => ("not_found", "`path`: no such file or directory", "file_list shows what is there"),
        "outside" => (
            "outside_roots",
            "`path`: leads through a symbolic link that does not end inside the target's file roots",
            "name the real place, if it lies under a root: call file_list without `path` to see the roots",
        ),
        "denied" => (
            "permission_denied",
            "`path`: the target's login user may not open it, or it was exchanged at that moment",
            "if it should be readable, its owner or group must allow it on the target; sudo is never used to read",
        ),
        "not_directory" => ("not_directory", "`path`: not a directory", "file_list shows what it is"),
        "not_regular" => {
            ("not_regular", "`path`: not a regular file", "file_list shows its type, and lists it if it is a directory")
        }
        "hard_link" => (
            "hard_link",
            "`path`: the file has more than one hard link, so it may belong to a place outside the roots",
            "read a copy of it that has one link",
        ),
        "symlink" => (
            "symlink",
            "`path`: is a symbolic link, and those are neither replaced nor deleted",
            "file_list shows what it says: name that place, if it lies under a root",
        ),
        "trash" => {
            ("invalid_arguments", "`path`: leads into the trash", "what is in the trash is for people to remove")
        }
        "exchanged" => (
            "permission_denied",
            "`path`: was exchanged for something else at that moment; nothing of it was kept in the trash",
            "look at it with file_list, then try again",
        ),
        "changed" => (
            "precondition_failed",
            "`expect_sha256`: the file is another one, or has another content; nothing was changed",
            "read it again; before_sha256 of a dry run is the digest to expect",
        ),
        "exists" => (
            "precondition_failed",
            "`expect_sha256`: absent was expected and something is there; nothing was changed",
            "expect its digest instead: a dry run without expect_sha256 shows it as before_sha256",
        ),
        "read_only" => (
            "permission_denied",
            "`path`: the target's login user may not write in that directory; nothing was changed",
            "if it should be writable, its owner or group must allow it on the target; sudo is never used to write",
        ),
        "too_large" => (
            "too_large",
            "`path`: the file is larger than 64 MiB, which is more than is kept as a backup; nothing was changed",
            "disk_inspect and file_read can look at it",
        ),
        "no_space" => (
            "no_space",
            "the target's file system has no room for the file and its backup; nothing was changed",
            "disk_inspect shows what fills it",
        ),
        "quota" => (
            "no_space",
            "the login user's quota on the target has no room for the file and its backup; nothing was changed",
            "disk_inspect shows what fills it",
        ),
        "damaged" => (
            "write_failed",
            "the content did not arrive whole, or could not be written; nothing was changed",
            "try again, or look at the target's storage",
        ),
        "backup" => (
            "backup_failed",
            "the backup of what is there could not be made; nothing was changed",
            "file_list shows what stands in the way",
        ),
        "other_filesystem" => (
            "other_filesystem",
            "`path`: is on another file system than its root, so it cannot be moved to the trash; nothing was changed",
            "a root on that file system has a trash of its own",
        ),
        "bad_trash" => (
            "trash_unusable",
            "the trash of this root cannot be used: it must be a directory of the login user with mode 0700",
            "it is .tailops-trash in the root",
        ),
        "busy" => ("busy", "another write in this directory has not ended; nothing was changed", "try again"),
        "missing_tool" => {
            ("unsupported", "the target lacks a program that is needed", "flock, sha256sum and find are needed")
        }
        "too_far" => (
            "too_large",
            "`start_line`: lies beyond the first 64 MiB, the part in which lines are counted",
            "use mode range with an offset in bytes, or mode tail",
        ),
        _ => ("read_failed", "`path`: the target could not read it", "try again, or look at the target's storage"),
    };
    ToolError::new(code, message).hint(hint)
}

/// What the section `name` of `output` holds. Errors with [`refusal`] where the script refused the file instead, and
/// as unreadable where it did not come to its end or its output was cut.
pub(super) fn section(output: &ScriptOutput, name: &str) -> Result<Vec<u8>, ToolError> {
    let sections = output.sections();
    if let Some(Err(reason)) = sections.iter().find(|section| section.name == "file").map(|section| &section.content) {
        return Err(refusal(reason));
    }
    if output.stdout.dropped() > 0 {
        return Err(ToolError::unreadable("it was longer than the gateway keeps"));
    }
    if !output.succeeded() || !sections.iter().any(|section| section.name == "end") {
        return Err(refusal("failed"));
    }
    let found = sections.into_iter().find(|section| section.name == name);
    found.and_then(|section| section.content.ok()).ok_or_else(|| ToolError::unreadable("a section is missing"))
}

/// Shell text: `held AT NAME` opens `AT/NAME`, named from the working directory as `./NAME`, as descriptor 3, and
/// fails unless what was opened is a regular file that lies exactly there. Sets `facts`: links, size, mtime, mode,
/// owner. Has no single quotes, so that it can stand inside them.
///
/// The link count is taken before the place. A file with one link whose name is still there afterwards had no other
/// name in between; the other way round, a link from outside could be removed between the two looks.
macro_rules! held {
    () => {
        r#"
held() {
    command exec 3<"./$2" || return 1
    [ -f "/proc/self/fd/3" ] || return 1
    facts=$(stat -L -c "%h %s %Y %a %U" "/proc/self/fd/3") || return 1
    [ "$(find "/proc/self/fd/3" -prune -printf %l/)" = "${1%/}/$2/" ]
}
"#
    };
}
pub(super) use held;

/// Shell text: [`held`], and `walk PATH ROOT…`, which makes the directory of PATH the working directory and sets `at`
/// to where that is, `name` to the last component and `kind` to its type (a letter of find's `%y`). Of a directory it
/// is the directory itself, with an empty `name`. Otherwise it fails and `why` says why: `not_found`, `outside`,
/// `denied`.
///
/// One component at a time: a link is read as text and followed only where that text stays under a root, so that
/// nothing outside is ever asked for. Each directory is entered and the kernel then asked where we are; a directory
/// that could not be entered and one that was exchanged for a link give the same answer, so that a race tells nothing
/// about what is outside.
macro_rules! walk {
    () => {
        concat!(
            $crate::tools::paths::held!(),
            r#"
exec 2>/dev/null
stop() { why=$1; return 1; }
enter() { cd -P -- "$1" && [ "$(find "/proc/self/cwd" -prune -printf %l/)" = "$at/" ] || stop denied; }
walk() {
    rest=$1 links=0; shift
    while :; do
        at=
        for root in "$@"; do
            case $rest/ in "${root%/}"/*) at=$root; break;; esac
        done
        [ "$at" ] || { stop outside; return; }
        case $(find "$at" -prune -printf %y) in
            d) enter "$at" || return;;
            l) stop outside; return;;
            *) stop not_found; return;;
        esac
        rest=${rest#"${at%/}"}
        while :; do
            while case $rest in /*) ;; *) false;; esac; do rest=${rest#/}; done
            name=${rest%%/*}; rest=${rest#"$name"}
            case $name in
                "") kind=d; return 0;;
                .) continue;;
                ..) rest=${at%/*}$rest rest=${rest:-/}; continue 2;;
                *" (deleted)") stop outside; return;;
            esac
            seen=$(find "./$name" -prune -printf %y%l/)
            case $seen in
                "") stop not_found; return;;
                l*) links=$((links + 1)) text=${seen#l}
                    [ "$links" -le 40 ] || { stop outside; return; }
                    case $text in /*) rest=${text%/}$rest;; *) rest=${at%/}/${text%/}$rest;; esac
                    continue 2;;
                d*) at=${at%/}/$name; enter "./$name" || return;;
                *) kind=${seen%/}
                    [ ! "$rest" ] || { stop not_found; return; }
                    return 0;;
            esac
        done
    done
}
"#
        )
    };
}
pub(super) use walk;
