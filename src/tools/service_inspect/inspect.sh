unit=$1 lines=$2
export TZ=UTC SYSTEMD_COLORS=0
command -v systemctl >/dev/null || { missing unit missing_tool; return 0; }
[ -d /run/systemd/system ] || { missing unit no_systemd; return 0; }
properties=Id,Names,Description,LoadState,LoadError,ActiveState,SubState,UnitFileState,NeedDaemonReload
properties=$properties,ActiveEnterTimestamp,InactiveEnterTimestamp,InvocationID,Type,Restart,User,MainPID,NRestarts
properties=$properties,Result,ExecMainStatus,MemoryCurrent,TasksCurrent,CPUUsageNSec
shown=$(systemctl show --no-pager -p "$properties" -- "$unit") || { missing unit systemctl_failed; return 0; }
section show
printf '%s\n' "$shown"
case $shown in *LoadState=not-found*)
	section near
	systemctl list-unit-files --no-pager --no-legend --full | cut -d ' ' -f 1
	systemctl list-units --all --plain --no-pager --no-legend --full | cut -d ' ' -f 1
	return 0 ;;
esac
# Units made at run time, masked ones and those of the kernel have no file.
if files=$(systemctl cat --no-pager -- "$unit" 2>/dev/null); then
	section file
	printf '%s\n' "$files" | head -c 131072
else
	missing file no_file
fi
section needed
ask RequiredBy,RequisiteOf,BoundBy,WantedBy "$unit"
section needs
ask Requires,Requisite,BindsTo "$unit"
section triggers
ask TriggeredBy "$unit"
[ "$lines" -gt 0 ] || return 0
reason=$(journal_access)
if [ -n "$reason" ]; then missing log "$reason"; return 0; fi
section log
journalctl --no-pager -o json --reverse "--lines=$lines" --output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_PID "--unit=$unit"
