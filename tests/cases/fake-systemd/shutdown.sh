# As shutdown of systemd 252 behaves with `-r +M`, `-P +M` and `-c`: it plans, notes the plan for everybody to read, and
# calling off what is not planned is no error.
echo "shutdown $*" >>"$FAKE/commands"
if [ -e "$FAKE/forbidden" ]; then
	echo "Failed to schedule shutdown: Interactive authentication required." >&2
	exit 1
fi
case $1 in
-r) mode=reboot ;;
-P) mode=poweroff ;;
-c) rm -f "$FAKE/scheduled"; exit 0 ;;
*) echo "shutdown: unrecognized option '$1'" >&2; exit 1 ;;
esac
printf 'USEC=%s000000\nWARN_WALL=1\nMODE=%s\n' "$(($(date +%s) + ${2#+} * 60))" "$mode" >"$FAKE/scheduled"
echo "Shutdown scheduled, use 'shutdown -c' to cancel." >&2
