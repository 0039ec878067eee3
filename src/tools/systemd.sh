# Prints the values of properties of a unit, one a line.
ask() { systemctl show --no-pager -p "$1" --value -- "$2" | tr ' ' '\n' | sed '/^$/d'; }

# Names that are protected, of those on standard input; the patterns are the arguments.
protected() {
	while IFS= read -r name; do
		for pattern in "$@"; do
			case $name in $pattern) printf '%s\n' "$name"; break ;; esac
		done
	done
}
# Every unit in reach of those in $1, themselves included, over the edges that the function $2 prints for a unit.
reached() {
	todo=$1 seen=
	while [ -n "$todo" ]; do
		next=
		for u in $todo; do
			case " $seen " in *" $u "*) continue ;; esac
			seen="$seen $u"
			next="$next $("$2" "$u" | tr '\n' ' ')"
		done
		todo=${next# }
		case $todo in *[!\ ]*) ;; *) todo= ;; esac
	done
	for u in $seen; do printf '%s\n' "$u"; done
}
stops_with() { ask RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo "$1"; }
# Every unit that systemd would stop together with the given ones.
stopped_with() { reached "$1" stops_with; }
