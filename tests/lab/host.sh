#!/bin/sh
# Boots a Debian host, again and again for as long as it reboots; ends when it is switched off. Runs in the host's
# network namespace and in a mount namespace of its own, so that nothing stays mounted when it is killed.
# usage: host.sh BASE DIRECTORY NAMESPACE HOSTNAME
set -eu
base=$1 directory=$2 namespace=$3 name=$4

mkdir -p "$directory/upper" "$directory/work" "$directory/tree"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$directory/upper,workdir=$directory/work" "$directory/tree"

# A control group of its own in each hierarchy that systemd uses, or two hosts would take each other's services for
# theirs.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$namespace"
    echo $$ >"$hierarchy/$namespace/cgroup.procs"
done

while :; do
    status=0
    systemd-nspawn --quiet --directory="$directory/tree" --boot --network-namespace-path="/run/netns/$namespace" \
        --register=no --keep-unit --console=pipe --machine="$namespace" --hostname="$name" --link-journal=no \
        --resolv-conf=off </dev/null || status=$?
    # systemd-nspawn(1): the status of a host that wants to be booted again.
    [ "$status" = 133 ] || exit "$status"
done
