action=$1 delay=$2 wanted=$3 mode=$4 rights=$5
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
[ -n "$boot" ] || { missing power no_boot_id; return 0; }
section boot
echo "$boot"
cut -d . -f 1 /proc/uptime
section user
id -un
command -v shutdown >/dev/null || missing shutdown missing_tool
if command -v who >/dev/null && [ -e /run/utmp ]; then
	section sessions
	who
else
	missing sessions no_utmp
fi
has_bus=
if [ -d /run/systemd/system ] && command -v busctl >/dev/null; then
	if out=$(busctl --no-pager --json=short call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager ListInhibitors 2>/dev/null); then
		has_bus=yes
		section inhibitors
		printf '%s\n' "$out"
	else
		missing inhibitors no_logind
	fi
	section jobs
	systemctl list-jobs --no-pager --no-legend --full 2>/dev/null | head -n 50
else
	missing inhibitors no_systemd
	missing jobs no_systemd
fi
# Programs that must not be cut short: those that change packages, and backups of guests.
section busy
for file in /proc/[0-9]*/comm; do
	read -r name <"$file" || continue
	case $name in dpkg | apt | apt-get | aptitude | unattended-upgr | vzdump | fwupdmgr | flashrom | update-initramf | mkinitramfs) printf '%s\n' "$name" ;; esac
done 2>/dev/null | sort -u
planned() { cat /run/systemd/shutdown/scheduled 2>/dev/null || :; }
section scheduled
planned
section checked
echo yes
[ "$mode" = run ] || return 0

refuse() { section refused; echo "$1"; }
if [ "$boot" != "$wanted" ]; then refuse boot_id; return 0; fi
[ -d /run/systemd/system ] && command -v shutdown >/dev/null || { missing power no_systemd; return 0; }
for file in /proc/[0-9]*/comm; do
	read -r name <"$file" || continue
	case $name in dpkg | apt | apt-get | aptitude | unattended-upgr | vzdump | fwupdmgr | flashrom | update-initramf | mkinitramfs) refuse busy; return 0 ;; esac
done 2>/dev/null
# `shutdown` by root overrides what blocks it, so it is looked for here; what cannot be asked blocks.
if [ -z "$has_bus" ]; then refuse inhibitors_unknown; return 0; fi
if printf '%s\n' "$out" | sed 's/\],\[/\n/g' | grep -q 'shutdown.*"block'; then refuse inhibited; return 0; fi
if [ -n "$(planned)" ]; then refuse scheduled; return 0; fi

if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n; else set --; fi
case $action in reboot) letter=-r ;; *) letter=-P ;; esac
errors=$("$@" shutdown "$letter" "+$delay" 2>&1 >/dev/null)
status=$?
section status
echo "$status"
section errors
printf '%s\n' "$errors" | head -c 2048
section scheduled_after
planned
if [ "$status" = 0 ]; then
	section job
	printf 'Boot=%s\nId=%s\n' "$boot" "$j"
	planned
fi
