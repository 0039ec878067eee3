set -f
action=$1 mode=$2 wanted=$3 removals=$4 pinned=$5 rights=$6 wait_s=$7 vital=$8
shift 8
for tool in apt-get apt-cache dpkg-query sha256sum; do
	command -v "$tool" >/dev/null || { missing plan missing_tool; return 0; }
done
section user
id -un
# apt takes a name that no package has for a pattern, and its last character for an action.
unknown=
for spec in "$@"; do
	name=${spec%%=*}
	apt-cache pkgnames -- "$name" 2>/dev/null | grep -qxF -e "$name" || unknown="$unknown $name"
done
if [ -n "$unknown" ]; then
	section unknown
	printf '%s\n' $unknown
	return 0
fi
case $action in
install) set -- install -- "$@" ;;
remove) set -- remove -- "$@" ;;
*) if [ $# = 0 ]; then set -- upgrade; else set -- install --only-upgrade -- "$@"; fi ;;
esac
# An older version is wanted only where a version is named.
if [ "$pinned" = pinned ]; then set -- --allow-downgrades "$@"; fi

dir=$(mktemp -d) || { missing plan no_temporary_directory; return 0; }
trap 'rm -rf -- "$dir"' EXIT
apt-get -s -o Debug::NoLocking=true "$@" >"$dir/out" 2>"$dir/err"
status=$?
if [ "$status" != 0 ]; then
	section simulation
	echo "$status"
	section errors
	head -c 4096 -- "$dir/err"
	section said
	tail -c 4096 -- "$dir/out"
	return 0
fi
# What would be done, in an order that does not depend on apt's way there.
sed -n -e 's/^\(Inst .*)\)\( \[[^]]*\]\)*$/\1/p' -e 's/^\(Remv [^ ]* \[[^]]*\]\).*/\1/p' -e 's/^\(Purg [^ ]* \[[^]]*\]\).*/\1/p' "$dir/out" | LC_ALL=C sort >"$dir/plan"
if [ "$(grep -cE '^(Inst|Remv|Purg) ' "$dir/out")" != "$(wc -l <"$dir/plan" | tr -d ' ')" ]; then missing plan unreadable; return 0; fi
section plan
cat -- "$dir/plan"
section plan_sha256
sha=$(sha256sum <"$dir/plan" | cut -c 1-64)
echo "$sha"
gone=$(sed -n -e 's/^Remv \([^ ]*\) .*/\1/p' -e 's/^Purg \([^ ]*\) .*/\1/p' "$dir/plan")
kept=
for name in $gone; do
	hit=
	case $(dpkg-query -W -f='${Essential} ${Protected} ${Important} ' -- "$name" 2>/dev/null) in *yes*) hit=yes ;; esac
	for pattern in $vital; do case ${name%%:*} in $pattern) hit=yes ;; esac; done
	[ -z "$hit" ] || kept="$kept $name"
done
section vital
printf '%s\n' $kept
section services
for name in $(cut -d ' ' -f 2 "$dir/plan"); do
	dpkg-query -L -- "$name" 2>/dev/null
done | sed -n -e 's|^/lib/systemd/system/\([^/]*\.service\)$|\1|p' -e 's|^/usr/lib/systemd/system/\([^/]*\.service\)$|\1|p' | sort -u | head -n 100
reboot() { if [ -e /run/reboot-required ]; then echo yes; cat /run/reboot-required.pkgs 2>/dev/null || :; else echo no; fi; }
section reboot
reboot
section checked
echo "$status"
[ "$mode" = run ] || return 0

job_able || return 0
refuse() { section refused; echo "$1"; }
if [ "$sha" != "$wanted" ]; then refuse plan_changed; return 0; fi
if [ -n "$kept" ]; then refuse vital; return 0; fi
if [ ! -s "$dir/plan" ]; then refuse nothing; return 0; fi
case $removals in
any) ;;
named)
	names=$(for word in "$@"; do printf '%s\n' "$word"; done | sed '1,/^--$/d')
	for name in $gone; do
		printf '%s\n' "$names" | grep -qxF -e "${name%%:*}" || { refuse removals; return 0; }
	done ;;
*)
	if [ -n "$gone" ]; then refuse removals; return 0; fi
	set -- --no-remove "$@" ;;
esac
installed() { dpkg-query -W -f='${Package}:${Architecture}\t${Version}\t${db:Status-Abbrev}\n' | LC_ALL=C sort; }
failed() { systemctl list-units --failed --plain --no-pager --no-legend --full 2>/dev/null | cut -d ' ' -f 1 | LC_ALL=C sort; }
installed >"$dir/before"
failed >"$dir/failed"
lock_s=$((wait_s / 2))
job_start "$rights" 7200 apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o "DPkg::Lock::Timeout=$lock_s" "$@"
job_wait "$wait_s"
if job_log >"$dir/run"; then
	section errors
	grep '^E: ' "$dir/run" | head -c 4096
	section log
	tail -c 4096 -- "$dir/run"
else
	missing log permission_denied
fi
section changed
installed >"$dir/after"
LC_ALL=C comm -3 "$dir/before" "$dir/after"
section failed_units
failed >"$dir/failed_after"
LC_ALL=C comm -13 "$dir/failed" "$dir/failed_after"
section reboot_after
reboot
