rights=$1 lines=$2
section job
printf 'Boot=%s\nUptime=%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$(cut -d . -f 1 /proc/uptime)"
cat /run/systemd/shutdown/scheduled 2>/dev/null
if [ -d /run/systemd/system ]; then job_show; fi
[ "$lines" != 0 ] || return 0
if ! out=$(journalctl --no-pager -q -o json --output-fields=MESSAGE -n "$lines" "_SYSTEMD_UNIT=$j" 2>/dev/null) || [ -z "$out" ]; then
	if [ "$rights" != sudo ] || ! out=$(sudo -n journalctl --no-pager -q -o json --output-fields=MESSAGE -n "$lines" "_SYSTEMD_UNIT=$j" 2>/dev/null); then
		[ -n "$out" ] || { missing log unreadable; return 0; }
	fi
fi
section log
printf '%s\n' "$out" | head -c 262144
