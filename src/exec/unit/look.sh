lines=$1
section job
printf 'Boot=%s\nUptime=%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$(cut -d . -f 1 /proc/uptime)"
cat /run/systemd/shutdown/scheduled 2>/dev/null
if [ -d /run/systemd/system ]; then job_show; fi
[ "$lines" != 0 ] || return 0
out=$(journalctl --no-pager -q -o json --output-fields=MESSAGE -n "$lines" "_SYSTEMD_UNIT=$j" 2>/dev/null)
[ -n "$out" ] || { missing log no_entries; return 0; }
section log
printf '%s\n' "$out" | head -c 262144
