# As systemd-run of systemd 252 behaves where it starts a job: Type=exec waits until the command was executed, a name that
# is loaded is refused, RemainAfterExit keeps the unit after its end, RuntimeMaxSec ends the command.
unit= limit=infinity
echo "systemd-run $*" >>"$FAKE/commands"
while [ $# -gt 0 ]; do
	case $1 in
	--unit=*) unit=${1#--unit=}.service ;;
	--quiet | --no-ask-password) ;;
	-p)
		case $2 in
		RuntimeMaxSec=*) limit=${2#*=} ;;
		Type=exec | RemainAfterExit=yes) ;;
		*) echo "Unknown assignment: $2" >&2; exit 1 ;;
		esac
		shift ;;
	-E) export "$2"; shift ;;
	--) shift; break ;;
	*) echo "systemd-run: unrecognized option '$1'" >&2; exit 1 ;;
	esac
	shift
done
if [ -e "$FAKE/forbidden" ]; then
	echo "Failed to start transient service unit: Interactive authentication required." >&2
	exit 1
fi
command -v "$1" >/dev/null || { echo "Failed to find executable $1: No such file or directory" >&2; exit 1; }
mkdir -p "$FAKE/units" "$FAKE/journal"
if ! mkdir "$FAKE/units/$unit" 2>/dev/null; then
	echo "Failed to start transient service unit: Unit $unit was already loaded or has a fragment file." >&2
	exit 1
fi
echo "$unit $*" >>"$FAKE/started"
echo "active running success 0" >"$FAKE/units/$unit/state"
export unit limit
setsid sh -c '
	dir=$FAKE/units/$unit
	become() { echo "$*" >"$dir/next" 2>/dev/null && mv "$dir/next" "$dir/state"; }
	if [ "$limit" = infinity ]; then "$@"; else timeout "$limit" "$@"; fi
	status=$?
	if [ "$status" = 0 ]; then become active exited success 0
	elif [ "$status" = 124 ]; then become failed failed timeout 15
	else become failed failed exit-code "$status"; fi
' sh "$@" </dev/null >"$FAKE/journal/$unit" 2>&1 &
echo $! >"$FAKE/units/$unit/pid"
