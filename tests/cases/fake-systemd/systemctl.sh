# As systemctl of systemd 252 behaves with the unit of a job: `show` of an unknown unit is no error, a transient unit that
# was stopped or reset is not loaded any more.
for unit; do :; done
dir=$FAKE/units/$unit
case $1 in
show)
	if [ -r "$dir/state" ] && read -r active sub result status <"$dir/state"; then load=loaded; else load=not-found active=inactive sub=dead result=success status=0; fi
	printf 'Id=%s\nLoadState=%s\nActiveState=%s\nSubState=%s\nResult=%s\nExecMainStatus=%s\n' "$unit" "$load" "$active" "$sub" "$result" "$status" ;;
stop | reset-failed)
	echo "systemctl $*" >>"$FAKE/commands"
	if [ -e "$FAKE/forbidden" ]; then echo "Failed to $1 $unit: Access denied" >&2; exit 4; fi
	[ -d "$dir" ] || { echo "Failed to $1 $unit: Unit $unit not loaded." >&2; exit 5; }
	if [ "$1" = stop ] && read -r active sub rest <"$dir/state" && [ "$sub" = running ]; then
		# The unit is gone before its command notices.
		pid=$(cat "$dir/pid")
		rm -rf "$dir"
		kill -s KILL -- "-$pid" 2>/dev/null
	fi
	rm -rf "$dir" ;;
*)
	cat "$FAKE/failed_now" 2>/dev/null
	[ ! -f "$FAKE/failing" ] || mv "$FAKE/failing" "$FAKE/failed_now" ;;
esac
exit 0
