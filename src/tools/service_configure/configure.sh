unit=$1 action=$2 now=$3 wait_s=$4 judged=$5 mode=$6 rights=$7
shift 7
export TZ=UTC SYSTEMD_COLORS=0
command -v systemctl >/dev/null || { missing unit missing_tool; return 0; }
[ -d /run/systemd/system ] || { missing unit no_systemd; return 0; }
state() { systemctl show --no-pager -p Id,LoadState,ActiveState,SubState,UnitFileState,UnitFilePreset,Job -- "$unit"; }
install_of() { systemctl cat --no-pager -- "$1" 2>/dev/null | sed -n '/^\[Install\]/,/^\[[^I]/p' | grep -E '^(WantedBy|RequiredBy|Alias|Also)[ 	]*='; }
named() { install_of "$2" | sed -n "s/^$1[ 	]*=//p" | tr ' ' '\n' | sed '/^$/d'; }
# The units whose files are treated along with this one (Also=), itself included.
goes_with() { named Also "$1"; }
configured_with() { reached "$1" goes_with; }

before=$(state) || { missing unit systemctl_failed; return 0; }
section before
printf '%s\n' "$before"
section user
id -un
case $before in *LoadState=not-found*)
	section near
	systemctl list-unit-files --no-pager --no-legend --full --type=service,socket,timer,path | cut -d ' ' -f 1
	return 0 ;;
esac

# An unexpected answer ends here: what cannot be checked is not done.
names=$(ask Names "$unit")
[ -n "$names" ] || { missing unit systemctl_failed; return 0; }
section install
install_of "$unit"
along=$unit
case $action in enable | disable) along=$(configured_with "$unit") ;; esac
aliases=
for u in $along; do aliases="$aliases
$(named Alias "$u")
$(ask Names "$u")"; done
stops= rivals=
if [ "$now" = now ]; then
	case $action in
	disable | mask) stops=$(stopped_with "$(printf '%s ' $along)") ;;
	enable) rivals=$(stopped_with "$(for u in $along; do ask Conflicts,ConflictedBy "$u"; done | grep -v '\.target$' | tr '\n' ' ')") ;;
	esac
fi
section stops
printf '%s\n' "$stops" "$rivals" | sed '/^$/d' | grep -vxF -e "$names"
found=$(printf '%s\n' "$names" "$along" "$aliases" "$stops" "$rivals" | sed '/^$/d' | protected "$@" | sort -u)
section protected
printf '%s\n' "$found"
[ "$mode" = run ] || return 0
if [ "$judged" != protected ] && [ -n "$found" ]; then return 0; fi

if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n; else set --; fi
dir=$(mktemp -d) || { missing unit no_temporary_directory; return 0; }
trap 'rm -rf -- "$dir"' EXIT
if [ "$now" = now ]; then
	"$@" systemctl "$action" --now --no-block --no-ask-password -- "$unit" >/dev/null 2>"$dir/err"
else
	"$@" systemctl "$action" --no-ask-password -- "$unit" >/dev/null 2>"$dir/err"
fi
status=$?
end=$(($(cut -d . -f 1 /proc/uptime) + wait_s))
settled=no
while :; do
	after=$(state)
	case $after in
	*ActiveState=activating* | *ActiveState=deactivating* | *ActiveState=reloading* | *Job=[1-9]*) ;;
	*) settled=yes; break ;;
	esac
	[ "$now" = now ] && [ "$status" = 0 ] && [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || break
	sleep 0.2
done
section after
printf '%s\n' "$after"
section settled
echo "$settled"
section status
echo "$status"
section errors
head -c 4096 -- "$dir/err"
