# As journalctl of systemd 252 behaves with what one unit printed: as text (-o cat), or as one JSON object a line.
form=cat lines=
for word; do
	case $last,$word in
	-o,*) form=$word ;;
	-n,*) lines=$word ;;
	*,_SYSTEMD_UNIT=*) unit=${word#_SYSTEMD_UNIT=} ;;
	esac
	last=$word
done
[ ! -e "$FAKE/unreadable" ] || exit 1
text=$(tail -n "${lines:-100000}" "$FAKE/journal/$unit" 2>/dev/null)
[ -n "$text" ] || exit 0
if [ "$form" = cat ]; then
	printf '%s\n' "$text"
else
	printf '%s\n' "$text" | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/{"__REALTIME_TIMESTAMP":"1795219200000000","MESSAGE":"&"}/'
fi
