//! Which units keep a host reachable, running and observed. The one list: the plan judges the name by it and the
//! script judges every name systemd knows the unit by.

/// Patterns of protected units, as `case` in `sh` reads them. `*` stands for anything.
pub(in crate::tools) const PROTECTED: &[&str] = &[
    // access to the host
    "ssh.*",
    "ssh@*",
    "sshd.*",
    "sshd@*",
    "sshd-*",
    "dropbear*",
    "tailscale*",
    "wg-quick*",
    "openvpn*",
    "teleport*",
    // the network
    "networking.*",
    "NetworkManager*",
    "network*",
    "ifup*",
    "wpa_supplicant*",
    "dhcpcd*",
    "connman*",
    "netplan*",
    "nftables.*",
    "netfilter-persistent.*",
    "iptables.*",
    "ip6tables.*",
    "firewalld.*",
    "ufw.*",
    // the system itself
    "systemd-*",
    "init.*",
    "dbus*",
    "polkit*",
    "getty*",
    "serial-getty@*",
    "console-getty*",
    "container-getty@*",
    "autovt@*",
    "user@*",
    "user-runtime-dir@*",
    "emergency.*",
    "rescue.*",
    "debug-shell.*",
    "halt*",
    "reboot*",
    "poweroff*",
    "kexec*",
    "udev*",
    "lvm2-*",
    "cryptdisks*",
    "multipath*",
    "iscsi*",
    "cloud-init*",
    "qemu-guest-agent.*",
    // what is watched and what watches
    "auditd.*",
    "tailops*",
    // what other workloads run in
    "docker.*",
    "docker@*",
    "containerd.*",
    "libvirtd*",
    "virtqemud*",
    "pve*",
    "corosync*",
    "kubelet*",
    "k3s*",
];

/// Whether `unit` (a full name) is protected. Case is ignored and `\xNN` escapes are also read decoded: to systemd these
/// would be other units, but no harmless unit looks like that.
pub(in crate::tools) fn is_protected(unit: &str) -> bool {
    let hit = |name: &str| {
        let name = name.to_ascii_lowercase();
        PROTECTED.iter().any(|pattern| matches_start(&pattern.to_ascii_lowercase(), &name))
    };
    hit(unit) || hit(&decoded(unit))
}

/// All patterns are a start followed by `*`; a test holds that.
fn matches_start(pattern: &str, name: &str) -> bool {
    name.starts_with(pattern.trim_end_matches('*'))
}

/// `unit` with its `\xNN` escapes of ASCII characters decoded.
fn decoded(unit: &str) -> String {
    let mut text = String::with_capacity(unit.len());
    let mut rest = unit;
    while let Some((before, behind)) = rest.split_once("\\x") {
        text.push_str(before);
        let code = behind.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
        match (code, behind.get(2..)) {
            (Some(code), Some(after)) => {
                text.push(char::from(code));
                rest = after;
            }
            _ => {
                text.push_str("\\x");
                rest = behind;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_vital_unit_is_protected() {
        for unit in [
            "ssh.service",
            "ssh.socket",
            "sshd.service",
            "ssh@10.service",
            "SSH.service",
            r"\x73sh.service",
            r"s\x73h.service",
            "tailscaled.service",
            "networking.service",
            "NetworkManager.service",
            "systemd-journald.service",
            "systemd-logind.service",
            "dbus.service",
            "dbus-broker.service",
            "dbus.socket",
            "docker.service",
            "docker.socket",
            "containerd.service",
            "tailops.service",
            "getty@tty1.service",
            "user@0.service",
            "init.service",
            "debug-shell.service",
        ] {
            assert!(is_protected(unit), "{unit}");
        }
    }

    #[test]
    fn other_units_are_not() {
        for unit in
            ["nginx.service", "sshfs-data.service", "cron.service", "my-docker-app.service", r"a\xzz.service", "x\\x"]
        {
            assert!(!is_protected(unit), "{unit}");
        }
    }

    #[test]
    fn patterns_are_a_plain_start_and_a_star_so_that_both_sides_read_them_alike() {
        for pattern in PROTECTED {
            let start = pattern.strip_suffix('*').unwrap();
            assert!(
                start.len() > 2 && start.chars().all(|c| c.is_ascii_alphanumeric() || "@._-".contains(c)),
                "{pattern}"
            );
        }
    }
}
