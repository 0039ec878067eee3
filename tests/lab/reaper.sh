#!/bin/sh
# Takes a run of the lab down once the process that holds the other end of its standard input has gone, however that
# ended. Every process it kills lives in a network namespace that this run made.
# usage: reaper.sh PREFIX DIRECTORY
set -u
trap '' HUP INT QUIT TERM PIPE
prefix=$1 directory=$2
case $prefix in to[0-9]*-) ;; *) exit 2 ;; esac
case $directory in /run/tailops-lab/[0-9]*) ;; *) exit 2 ;; esac

# Until the end of file: nobody writes anything.
cat >/dev/null

namespaces() {
    for path in /run/netns/"$prefix"*; do
        [ -e "$path" ] && echo "${path##*/}"
    done
}

# A process may start another while it is looked for, so until none is left.
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    found=
    for name in $(namespaces); do
        for pid in $(ip netns pids "$name" 2>/dev/null); do
            found=yes
            kill -KILL "$pid" 2>/dev/null
        done
    done
    [ -n "$found" ] || break
    sleep 0.1
done
for name in $(namespaces); do
    ip netns del "$name"
done
# The control groups of hosts, empty now: the inner ones first.
for group in /sys/fs/cgroup/"$prefix"* /sys/fs/cgroup/systemd/"$prefix"* /sys/fs/cgroup/unified/"$prefix"*; do
    [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} \;
done
rm -rf -- "$directory"
