# What has this marker among its arguments, and everything in the process groups that such processes lead, ends.
# Standard input: the marker, and for how many seconds they may still end by themselves.
IFS=' ' read -r want patience || exit 64
case $want in *[!0-9a-f]*) exit 64 ;; esac
case $patience in '' | *[!0-9]*) exit 64 ;; esac
[ "${#want}" -eq 32 ] && [ "${#patience}" -le 3 ] || exit 64
me=$(id -u) || exit 65

say() { printf '%s %s\n' "$m" "$1"; exit 0; }

# Those of "$@", files, that hold the marker. It comes by standard input: no process of ours may have it as an argument.
holding() { printf '%s\n' "$want" | grep -lFf - "$@" 2>/dev/null; }

# The process groups of all living processes with the marker that are ours. One that somebody else leads is left out:
# what leads it is no part of the command.
groups() {
    for file in $(holding /proc/[0-9]*/cmdline); do
        process=${file%/cmdline}
        [ "$(stat -c %u "$process" 2>/dev/null)" = "$me" ] || continue
        group=$(sed -n 's/^.*) [A-WYa-wyz] [0-9]* \([0-9]*\) .*$/\1/p' "$process/stat" 2>/dev/null)
        case $group in '' | *[!0-9]* | 0 | 1) continue ;; esac
        leader=/proc/$group/cmdline
        if [ -n "$(holding "$leader")" ] || ! grep -q . "$leader" 2>/dev/null; then
            printf '%s\n' "$group"
        fi
    done | sort -u
}

# Whether a process of the groups lives.
alive() {
    sed -n 's/^.*) \([A-Za-z]\) [0-9]* \([0-9]*\) .*$/\1 \2/p' /proc/[0-9]*/stat 2>/dev/null | grep -qxE "[^ZXx] ($any)"
}

# Whether what leads the groups lives: `timeout`, which ends them by itself at the limit.
led() {
    for group in $found; do [ -n "$(holding "/proc/$group/cmdline")" ] && return 0; done
    return 1
}

# It may not have begun yet.
tries=10
found=$(groups)
while [ -z "$found" ] && [ "$tries" -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
    found=$(groups)
done
[ -n "$found" ] || say none
any=$(printf '%s' "$found" | tr '\n' '|')

left=$((patience * 10))
while [ "$left" -gt 0 ] && led; do
    sleep 0.1
    left=$((left - 1))
done
for step in INT:10 TERM:20 KILL:20; do
    alive || break
    for group in $found; do kill -s "${step%:*}" -- "-$group" 2>/dev/null; done
    left=${step#*:}
    while [ "$left" -gt 0 ] && alive; do
        sleep 0.1
        left=$((left - 1))
    done
done
alive && say left
# Where other users' processes are hidden, some may be left that cannot be seen.
[ -r /proc/1/stat ] || say hidden
say gone
