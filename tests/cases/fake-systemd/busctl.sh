# As busctl of systemd 252 prints logind's answer to ListInhibitors: those of the test, or none.
case "$*" in
*" ListInhibitors") printf '{"type":"a(ssssuu)","data":[[%s]]}\n' "$(cat "$FAKE/inhibitors" 2>/dev/null)" ;;
*) echo "Unknown method" >&2; exit 1 ;;
esac
