j=tailops-$1.service; shift
job_able() {
	[ -d /run/systemd/system ] && command -v systemd-run >/dev/null || { missing job no_systemd; return 1; }
}
job_start() {
	_rights=$1 _seconds=$2
	shift 2
	set -- systemd-run --quiet --no-ask-password "--unit=${j%.service}" -p Type=exec -p RemainAfterExit=yes -p "RuntimeMaxSec=$_seconds" -E LC_ALL=C -E DEBIAN_FRONTEND=noninteractive -- "$@"
	if [ "$_rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n "$@"; fi
	_said=$("$@" 2>&1 >/dev/null)
	_status=$?
	section job_start
	echo "$_status"
	section job_errors
	printf '%s\n' "$_said" | head -c 2048
	return "$_status"
}
job_show() {
	systemctl show --no-pager -p Id,LoadState,ActiveState,SubState,Result,ExecMainStatus -- "$j" 2>/dev/null
}
job_wait() {
	_end=$(($(cut -d . -f 1 /proc/uptime) + $1))
	while :; do
		_shown=$(job_show)
		case $_shown in *SubState=exited* | *ActiveState=failed* | *ActiveState=inactive*) break ;; esac
		[ "$(cut -d . -f 1 /proc/uptime)" -lt "$_end" ] || break
		sleep 0.2
	done
	section job
	printf '%s\nBoot=%s\n' "$_shown" "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
}
job_log() {
	# The journal may lag behind the end of a unit: until it stands still, at most three seconds.
	_was=
	for _try in 1 2 3 4 5 6 7 8 9 10; do
		_now=$(journalctl --no-pager -q -o cat "_SYSTEMD_UNIT=$j" 2>/dev/null) || return 1
		[ -z "$_now" ] || [ "$_now" != "$_was" ] || break
		_was=$_now
		sleep 0.3
	done
	printf '%s\n' "$_now"
}
