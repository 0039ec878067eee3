unit=$1 action=$2 wait_s=$3 judged=$4 mode=$5 rights=$6
shift 6
export TZ=UTC SYSTEMD_COLORS=0
command -v systemctl >/dev/null || { missing unit missing_tool; return 0; }
[ -d /run/systemd/system ] || { missing unit no_systemd; return 0; }
state() { systemctl show --no-pager -p Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainStatus,InvocationID,Job -- "$unit"; }

before=$(state) || { missing unit systemctl_failed; return 0; }
section before
printf '%s\n' "$before"
section user
id -un
case $before in *LoadState=not-found*)
	section near
	systemctl list-unit-files --no-pager --no-legend --full --type=service,socket,timer | cut -d ' ' -f 1
	systemctl list-units --all --plain --no-pager --no-legend --full --type=service,socket,timer | cut -d ' ' -f 1
	return 0 ;;
esac

# An unexpected answer ends here: what cannot be checked is not done.
names=$(ask Names "$unit")
[ -n "$names" ] || { missing unit systemctl_failed; return 0; }
needed=
case $action in stop | restart) needed=$(stopped_with "$unit") ;; esac
rivals=
case $action in start | restart) rivals=$(stopped_with "$(ask Conflicts,ConflictedBy "$unit" | grep -v '\.target$' | tr '\n' ' ')") ;; esac
section needed
printf '%s\n' "$needed" | sed '/^$/d' | grep -vxF -e "$names"
section rivals
printf '%s\n' "$rivals"
section triggers
ask TriggeredBy "$unit"
found=$(printf '%s\n' "$names" "$needed" "$rivals" "$(ask Triggers "$unit")" | sed '/^$/d' | protected "$@")
section protected
printf '%s\n' "$found"
[ "$mode" = run ] || return 0
if [ "$judged" != protected ] && [ -n "$found" ]; then return 0; fi

if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n; else set --; fi
dir=$(mktemp -d) || { missing unit no_temporary_directory; return 0; }
trap 'rm -rf -- "$dir"' EXIT
# In the background and with its own streams: a start that takes longer than we wait goes on without us.
{ "$@" systemctl "$action" --no-ask-password -- "$unit" 2>"$dir/err"; echo $? >"$dir/rc"; } >/dev/null 2>&1 &
end=$(($(cut -d . -f 1 /proc/uptime) + wait_s))
settled=no
while :; do
	after=$(state)
	if [ -s "$dir/rc" ]; then
		# Refused or failed: nothing is left to wait for.
		[ "$(cat -- "$dir/rc")" = 0 ] || { settled=yes; break; }
		case $after in
		*ActiveState=activating* | *ActiveState=deactivating* | *ActiveState=reloading* | *Job=[1-9]*) ;;
		*) settled=yes; break ;;
		esac
	fi
	[ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || break
	sleep 0.2
done
# One more look: a unit that dies at once is told as dead.
if [ "$settled" = yes ] && [ "$action" != stop ]; then sleep 0.5; after=$(state); fi
section after
printf '%s\n' "$after"
section settled
echo "$settled"
section status
cat -- "$dir/rc" 2>/dev/null
section errors
head -c 4096 -- "$dir/err"
reason=$(journal_access)
if [ -n "$reason" ]; then missing log "$reason"; return 0; fi
section log
journalctl --no-pager -o json --reverse --lines=10 --output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_PID "--unit=$unit"
