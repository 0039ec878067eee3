detail=$1
if command -v dpkg-query >/dev/null; then
	section packages
	dpkg-query -W -f='${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n'
else
	missing packages missing_tool
fi
if ! command -v apt-get >/dev/null; then missing upgrades missing_tool; return 0; fi
# Simulated, without taking locks: changes nothing and needs no rights.
if out=$(apt-get -s -o Debug::NoLocking=true dist-upgrade 2>&1); then
	section upgrades
	printf '%s\n' "$out" | grep -E '^(Inst|Remv|Purg) '
	section upgrades_end
else
	missing upgrades apt_failed
	section errors
	printf '%s\n' "$out" | grep '^E: ' | head -c 2048
fi
section age
lists_age
[ -n "$detail" ] || return 0
section detail
apt-cache policy -- "$detail"
