rights=$1 lock_s=$2 mode=$3
command -v apt-get >/dev/null || { missing refresh missing_tool; return 0; }
section user
id -un
section sources
apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | sort -u
section age_before
lists_age
[ "$mode" = run ] || return 0

if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n; else set --; fi
dir=$(mktemp -d) || { missing refresh no_temporary_directory; return 0; }
trap 'rm -rf -- "$dir"' EXIT
end=$(($(cut -d . -f 1 /proc/uptime) + lock_s))
# apt does not wait for the lock of the lists by itself.
while :; do
	"$@" apt-get update -q >"$dir/out" 2>"$dir/err"
	status=$?
	[ "$status" != 0 ] && grep -q 'Could not get lock\|Unable to lock directory' "$dir/err" || break
	! grep -q 'Permission denied' "$dir/err" && [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || break
	sleep 1
done
section out
head -c 262144 -- "$dir/out"
section errors
head -c 16384 -- "$dir/err"
section status
echo "$status"
section age_after
lists_age
