rights=$1 what=$2 boot=$3
if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then sudo='sudo -n'; else sudo=; fi
section user
id -un
case $what in
shutdown)
	# Only that of the boot it was planned in.
	if [ "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" = "$boot" ]; then
		errors=$($sudo shutdown -c 2>&1)
		status=$?
	fi ;;
clean)
	[ -d /run/systemd/system ] || { missing job no_systemd; return 0; }
	case $(job_show) in
	*ActiveState=failed*) verb=reset-failed ;;
	*SubState=exited*) verb=stop ;;
	# Nothing that runs is stopped by cleaning up.
	*) return 0 ;;
	esac
	errors=$($sudo systemctl "$verb" --no-ask-password -- "$j" 2>&1)
	status=$? ;;
*)
	[ -d /run/systemd/system ] || { missing job no_systemd; return 0; }
	section before
	job_show
	errors=$($sudo systemctl stop --no-ask-password -- "$j" 2>&1)
	status=$? ;;
esac
section stopped
echo "${status:-0}"
section errors
printf '%s\n' "${errors:-}" | head -c 2048
section job
printf 'Boot=%s\nUptime=%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$(cut -d . -f 1 /proc/uptime)"
cat /run/systemd/shutdown/scheduled 2>/dev/null
if [ -d /run/systemd/system ]; then job_show; fi
