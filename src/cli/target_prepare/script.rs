//! The script of `tailops target prepare`, and the files in it: text that an administrator reads before running it. What
//! comes from the registry stands in it only where it was checked to be a name, a key or a network.

use std::fmt::Write;

use super::{File, Needs};
use crate::tools::SudoRule;

/// The authority's public key.
pub(super) const AUTHORITY: &str = "/etc/ssh/tailops_user_ca.pub";
/// The principals that may log in.
pub(super) const PRINCIPALS: &str = "/etc/ssh/tailops_principals";
/// The keys that may log in.
pub(super) const KEYS: &str = "/etc/ssh/tailops_authorized_keys";
/// What sshd is told of the login user.
pub(super) const CONFIGURATION: &str = "/etc/ssh/sshd_config.d/50-tailops.conf";
/// Ends each file in the script.
const END: &str = "TAILOPS_END";

/// What sshd is told of `user`. `behind` are the hosts that are reached through this one.
pub(super) fn sshd(user: &str, minted: bool, behind: &[String]) -> String {
    let mut text = format!("Match User {user}\n");
    let mut set = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {key} {value}");
    };
    set("AuthenticationMethods", "publickey");
    if minted {
        set("TrustedUserCAKeys", AUTHORITY);
        set("AuthorizedPrincipalsFile", PRINCIPALS);
        set("AuthorizedKeysFile", "none");
    } else {
        set("AuthorizedKeysFile", KEYS);
    }
    for key in ["PermitTTY", "X11Forwarding", "AllowAgentForwarding", "AllowStreamLocalForwarding", "PermitTunnel"] {
        set(key, "no");
    }
    if behind.is_empty() {
        set("AllowTcpForwarding", "no");
    } else {
        set("AllowTcpForwarding", "local");
        set("PermitOpen", &behind.join(" "));
    }
    set("PermitUserRC", "no");
    text + "Match all\n"
}

/// The sudoers file of these rules, grouped by tool.
pub(super) fn sudoers(rules: &[SudoRule]) -> String {
    let mut text = "# Made by `tailops target prepare`.\n".to_owned();
    let mut tool = "";
    for rule in rules {
        if rule.tool != tool {
            tool = rule.tool;
            let _ = writeln!(text, "# {tool}");
        }
        if !rule.beyond.is_empty() {
            let _ = writeln!(text, "# Mind: {}", rule.beyond);
        }
        let _ = writeln!(text, "{}", rule.line);
    }
    text
}

/// The whole script.
pub(super) fn of(needs: &Needs) -> String {
    let Needs { target, user, groups, files, notes } = needs;
    let is_minted = files.iter().any(|file| file.path == AUTHORITY);
    // As `sshd -T` prints it.
    let proof = match is_minted {
        true => format!("trustedusercakeys {AUTHORITY}"),
        false => format!("authorizedkeysfile {KEYS}"),
    };
    let mut text = format!(
        "#!/bin/sh\n# Prepares the host behind target {target}. Read it, then run it there as root.\n# Running it again changes nothing more; what it does is undone by the lines at its end.\n"
    );
    for note in notes {
        let _ = writeln!(text, "# Note: {note}");
    }
    // `su` without `-` leaves root the path of whoever calls it.
    text += "set -eu\numask 022\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n[ \"$(id -u)\" = 0 ] || { echo 'run this as root' >&2; exit 1; }\n";
    let _ = write!(
        text,
        "\n# The login user: no password, a plain shell, nothing in its home that sshd reads.\n\
         id -u {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/sh --password '*' {user}\n"
    );
    for group in groups {
        let _ = writeln!(text, "# To read the journal.\nusermod -a -G {group} {user}");
    }
    for file in files {
        let _ = writeln!(text, "\n# {}: {}", file.path, file.why);
        let File { path, mode, content, .. } = file;
        // sudo skips names with a dot, and sshd those that do not end in `.conf`: a file that is not right is never in
        // force, and no later start of sshd meets it.
        let check = match *path {
            path if path.starts_with("/etc/sudoers.d/") => "visudo -cqf",
            CONFIGURATION => "sshd -t -f",
            _ => {
                let _ = write!(text, "install -m {mode} /dev/stdin {path} <<'{END}'\n{content}{END}\n");
                continue;
            }
        };
        let _ = write!(
            text,
            "install -m {mode} /dev/stdin {path}.new <<'{END}'\n{content}{END}\n{check} {path}.new\nmv -T -- {path}.new {path}\n"
        );
    }
    let _ = write!(
        text,
        "\n# Whether sshd takes it all: nothing before it may decide otherwise for this user.\nsshd -t\n\
         if ! sshd -T -C user={user},host=localhost,addr=127.0.0.1 | grep -qxF '{proof}'; then\n    \
         echo 'sshd does not read {CONFIGURATION} for {user}: \
         begin /etc/ssh/sshd_config with the line: Include /etc/ssh/sshd_config.d/*.conf' >&2\n    exit 1\nfi\n\n\
         # Into force: connections that are open stay as they are.\nsystemctl reload ssh.service\n"
    );
    let paths: Vec<&str> = files.iter().rev().map(|file| file.path).collect();
    let _ = write!(
        text,
        "\n# To undo all of it:\n#   rm -f -- {}\n#   sshd -t && systemctl reload ssh.service\n\
         #   systemctl stop \"user-$(id -u {user}).slice\"; while pkill -KILL -u {user}; do sleep 1; done\n#   userdel --remove {user}\n",
        paths.join(" ")
    );
    text
}
