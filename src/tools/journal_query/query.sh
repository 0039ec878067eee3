reason=$(journal_access)
case $reason in
'') ;;
permission_denied) missing entries "$reason" ;;
*) missing entries "$reason"; return 0 ;;
esac
section entries
journalctl --no-pager -o json --reverse --output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_PID "$@"
status=$?
section status
echo "$status"
