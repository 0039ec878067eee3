command -v journalctl >/dev/null || { missing entries missing_tool; return 0; }
# journalctl is silent about what it may not read where the user has a journal of its own.
for f in /var/log/journal/*/system.journal /run/log/journal/*/system.journal; do
	if [ -e "$f" ] && ! [ -r "$f" ]; then missing entries permission_denied; break; fi
done
section entries
journalctl --no-pager -o json --reverse --output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_PID "$@"
status=$?
section status
echo "$status"
