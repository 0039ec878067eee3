have() { command -v "$1" >/dev/null; }
# Says why systemd cannot be asked about section $1, if it cannot.
systemd() {
	have systemctl || { missing "$1" missing_tool; return 1; }
	[ -d /run/systemd/system ] || { missing "$1" no_systemd; return 1; }
}
# One hash over the state of every file that apt and dpkg go by: the packages, the lists, the settings. A file is told
# from what it was by size, time and inode, as those who write them replace them.
apt_state() {
	stat -c '%n %s %y %i' /var/lib/dpkg/status /var/lib/dpkg/arch /var/lib/apt/extended_states /var/lib/apt/lists/*_* \
		/etc/apt/apt.conf /etc/apt/apt.conf.d/* /etc/apt/preferences /etc/apt/preferences.d/* \
		/etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sha256sum
}
# Whether section $1 would say what it said when the state was $known; says so then.
unchanged() {
	[ -n "$known" ] && [ "$known" = "$state" ] || return 1
	section "$1"; echo unchanged
}
export TZ=UTC SYSTEMD_COLORS=0

known= state=
case $1 in known=*) known=${1#known=}; shift ;; esac
for part in "$@"; do
  case $part in
  state)
    # Before what depends on it: a change in between is then seen the next time.
    if have dpkg-query; then state=$(apt_state) state=${state%% *}; section state; echo "sha256 $state"; else missing state missing_tool; fi ;;
  host)
    section host
    # What the shell can read itself starts no process: there is one host, but a fleet of them may share its cores.
    echo "hostname $(uname -n)"
    echo "kernel $(uname -srm)"
    for file in boot_id:sys/kernel/random/boot_id uptime_s:uptime load:loadavg; do
      line=
      [ ! -r "/proc/${file#*:}" ] || read -r line <"/proc/${file#*:}"
      echo "${file%%:*} $line"
    done
    echo "cpus $(nproc 2>/dev/null)"
    [ ! -r /proc/meminfo ] || while read -r key rest; do
      case $key in MemTotal: | MemAvailable:) echo "${key%:} $rest" ;; esac
    done </proc/meminfo ;;
  os)
    if text=$(cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null) && [ -n "$text" ]
    then section os; printf '%s\n' "$text"
    else missing os not_supported
    fi ;;
  disks)
    # Local ones only: a server of files that is away would hold this up. Images are always full.
    rows=$(timeout -k 1 8 df -l -B1 -x squashfs -x iso9660 -x erofs -x overlay -x devtmpfs -x efivarfs \
      --output=fstype,size,used,avail,itotal,iused,target 2>/dev/null)
    if [ -n "$rows" ]; then section disks; printf '%s\n' "$rows"; else missing disks df_failed; fi ;;
  failed)
    if systemd failed; then
      names=$(systemctl list-units --all --failed --plain --no-legend --no-pager 2>/dev/null) || { missing failed systemctl_failed; continue; }
      names=$(printf '%s\n' "$names" | awk '{ print $1 }')
      section failed
      # Word splitting: one name a word. Names of units hold no spaces and no patterns.
      set -f
      [ -z "$names" ] || systemctl show --no-pager --timestamp=unix -p Id,Result,StateChangeTimestamp -- $names 2>/dev/null ||
        systemctl show --no-pager -p Id,Result -- $names
      set +f
    fi ;;
  clock)
    if ! have timedatectl || [ ! -d /run/systemd/system ]; then missing clock no_systemd
    elif synced=$(timeout -k 1 5 timedatectl show -p NTPSynchronized --value 2>/dev/null) && [ -n "$synced" ]; then
      section clock; echo "synced $synced"
    else missing clock timedatectl_failed
    fi ;;
  reboot)
    running=$(uname -r) others=
    newest=$running
    for kernel in /boot/vmlinuz-*; do
      [ "$kernel" = "/boot/vmlinuz-$running" ] || [ ! -e "$kernel" ] || others="$others${kernel#/boot/vmlinuz-}
"
    done
    # The newest kernel of the running one's flavour (amd64, cloud-amd64, pve), the running one included.
    [ -z "$others" ] || newest=$(
      printf '%s\n%s' "$running" "$others" |
        sed 's/^\([^-]*-\([0-9][0-9]*-\)\{0,1\}\)\(.*\)/\3 \1\3/' |
        awk 'NR == 1 { own = $1 } $1 == own { print $2 }' | sort -V | tail -n 1
    )
    section reboot
    if [ -e /run/reboot-required ]; then
      echo "required 1"
      echo "since $(stat -c %Y /run/reboot-required)"
    elif [ "$newest" != "$running" ]; then
      echo "required 1"
      echo "since $(stat -c %Y "/boot/vmlinuz-$newest")"
    else echo "required 0"
    fi ;;
  updates)
    # Simulated, without taking locks: changes nothing and needs no rights.
    if ! have apt-get; then missing updates missing_tool
    elif unchanged updates; then section lists; lists_age
    elif out=$(timeout -k 1 15 apt-get -s -o Debug::NoLocking=true dist-upgrade 2>/dev/null); then
      section updates
      printf '%s\n' "$out" | grep '^Inst '
      section lists
      lists_age
    else missing updates apt_failed
    fi ;;
  digest | packages)
    if ! have dpkg-query; then missing "$part" missing_tool
    elif [ "$part" = digest ] && unchanged digest; then :
    elif list=$(dpkg-query -W -f='${db:Status-Abbrev}\t${Package}:${Architecture}\t${Version}\n' 2>/dev/null); then
      list=$(printf '%s\n' "$list" | grep '^.[^nc]' | cut -f 2,3 | LC_ALL=C sort)
      section "$part"
      if [ "$part" = packages ]; then printf '%s\n' "$list"
      else
        echo "count $(printf '%s\n' "$list" | wc -l)"
        echo "sha256 $(printf '%s\n' "$list" | sha256sum | cut -c 1-64)"
      fi
    else missing "$part" dpkg_failed
    fi ;;
  mounts)
    if rows=$(cat /proc/self/mounts 2>/dev/null) && [ -n "$rows" ]; then section mounts; printf '%s\n' "$rows"
    else missing mounts not_supported
    fi ;;
  sockets)
    if ! have ss; then missing sockets missing_tool
    elif rows=$(ss -H -lntu 2>/dev/null); then section sockets; printf '%s\n' "$rows"
    else missing sockets ss_failed
    fi ;;
  units)
    if systemd units; then
      files=$(systemctl list-unit-files --no-legend --no-pager --type=service,socket,timer 2>/dev/null) || { missing units systemctl_failed; continue; }
      section files; printf '%s\n' "$files" | awk '{ print $1, $2 }'
      section units
      systemctl show --no-pager -p Id,ActiveState,UnitFileState -- '*.service' '*.socket' '*.timer'
    fi ;;
  esac
done
# Last, so that it is compared with a clock that is read soon after.
section now
date +%s
section end
