# The head of one crontab: "OWNER PATH" names it. Names that cron itself ignores are left out by the callers.
crontab_of() {
	if [ ! -f "$2" ]; then return; fi
	if [ -r "$2" ]; then section "$1 $2"; head -c 65536 -- "$2"; else missing "$2" permission_denied; fi
}
cron_jobs() {
	crontab_of system /etc/crontab
	for f in /etc/cron.d/*; do
		case ${f##*/} in *[!A-Za-z0-9_-]*) ;; *) crontab_of system "$f" ;; esac
	done
	for period in hourly daily weekly monthly; do
		section "parts $period"
		for f in /etc/cron."$period"/*; do
			case ${f##*/} in *[!A-Za-z0-9_-]*) ;; *) [ -x "$f" ] && printf '%s\n' "$f" ;; esac
		done
	done
	spool=/var/spool/cron/crontabs
	if [ -r "$spool" ] && [ -x "$spool" ]; then
		for f in "$spool"/*; do
			u=${f##*/}
			case $u in *[!A-Za-z0-9._-]*) ;; *) crontab_of "user:$u" "$f" ;; esac
		done
	elif [ -d "$spool" ]; then
		missing user_crontabs permission_denied
		if own=$(crontab -l 2>/dev/null); then section "user:$(id -un) crontab"; printf '%s\n' "$own"; fi
	fi
}
if [ "$1" = cron ]; then
	if [ -e /etc/crontab ] || [ -d /etc/cron.d ] || [ -d /var/spool/cron/crontabs ]; then cron_jobs; else missing cron no_cron; fi
	return 0
fi
command -v systemctl >/dev/null || { missing units missing_tool; return 0; }
[ -d /run/systemd/system ] || { missing units no_systemd; return 0; }
export TZ=UTC SYSTEMD_COLORS=0
properties=Id,Description,LoadState,ActiveState,SubState,UnitFileState,ActiveEnterTimestamp
case $1 in
service) properties=$properties,MainPID,NRestarts,Result,MemoryCurrent ;;
timer) properties=$properties,Result,Unit,NextElapseUSecRealtime,NextElapseUSecMonotonic,LastTriggerUSec ;;
socket) properties=$properties,Result,Listen,Triggers ;;
mount) properties=$properties,Result,Where,What ;;
esac
out=$(systemctl show --no-pager -p "$properties" -- "*.$1") || { missing units systemctl_failed; return 0; }
section units
printf '%s\n' "$out"
section files
systemctl list-unit-files --no-pager --no-legend --full --type="$1"
section boot
sed -n 's/^btime //p' /proc/stat
