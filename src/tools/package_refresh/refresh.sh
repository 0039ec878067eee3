rights=$1 lock_s=$2 wait_s=$3 mode=$4
command -v apt-get >/dev/null || { missing refresh missing_tool; return 0; }
section user
id -un
section sources
apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | sort -u
section age_before
lists_age
[ "$mode" = run ] || return 0

job_able || return 0
# apt does not wait for the lock of the lists by itself.
end=$(($(cut -d . -f 1 /proc/uptime) + lock_s))
lock=$(stat -c %i /var/lib/apt/lists/lock 2>/dev/null)
while [ -n "$lock" ] && grep -q ":$lock " /proc/locks && [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ]; do sleep 1; done
job_start "$rights" 1800 apt-get update -q
job_wait "$wait_s"
if out=$(job_log); then
	section out
	printf '%s\n' "$out" | head -c 262144
else
	missing out permission_denied
fi
section age_after
lists_age
