have() { command -v "$1" >/dev/null; }
# File $2 as section $1, or why it cannot be had.
shown() {
  if text=$(cat -- "$2" 2>/dev/null) && [ -n "$text" ]; then section "$1"; printf '%s\n' "$text"
  elif [ -e "$2" ] && [ ! -r "$2" ]; then missing "$1" permission_denied
  else missing "$1" not_supported
  fi
}
# Size and inodes come from one call, so that they belong together; the name, which may hold spaces, comes last.
disks() { timeout -k 1 8 df -B1 "$@" --output=fstype,size,used,avail,itotal,iused,target 2>/dev/null; }

for part in "$@"; do
  case $part in
  os)
    section host
    echo "hostname $(uname -n)"
    echo "kernel $(uname -srm)"
    echo "uptime_s $(cat /proc/uptime 2>/dev/null)"
    echo "boot_id $(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
    if [ -e /etc/os-release ]; then shown os /etc/os-release; else shown os /usr/lib/os-release; fi ;;
  cpu)
    if first=$(grep -s -m 1 '^cpu ' /proc/stat); then
      sleep 0.25
      second=$(grep -s -m 1 '^cpu ' /proc/stat)
      model=$(sed -n 's/^model name[^:]*: *//p;T;q' /proc/cpuinfo 2>/dev/null)
      # Arm's cpuinfo has numbers only; lscpu knows their names.
      [ -n "$model" ] || ! have lscpu || model=$(lscpu 2>/dev/null | sed -n 's/^Model name: *//p' | head -n 1)
      section cpu
      echo "n $(grep -c '^cpu[0-9]' /proc/stat)"
      echo "model $model"
      echo "first ${first#cpu }"
      echo "second ${second#cpu }"
      [ -n "$model" ] || missing cpu.model not_supported
    else missing cpu not_supported
    fi ;;
  mem) shown mem /proc/meminfo ;;
  swap) shown swap /proc/meminfo ;;
  load) shown load /proc/loadavg ;;
  psi)
    if [ -d /proc/pressure ]; then
      for resource in cpu memory io; do shown "psi.$resource" "/proc/pressure/$resource"; done
    else missing psi not_supported
    fi ;;
  fs)
    rows=$(disks) && status=0 || status=$?
    case $status in
    0) ;;
    124 | 137) missing fs.network timeout; rows=$(disks -l) || missing fs.other df_failed ;;
    *) missing fs.other df_failed ;;
    esac
    if [ -n "$rows" ]; then section fs; printf '%s\n' "$rows"; else missing fs df_failed; fi
    if [ -r /proc/self/mounts ]; then section mounts; awk '{ print substr($4, 1, 2), $1, $2 }' /proc/self/mounts
    else missing fs.source not_supported
    fi ;;
  block)
    if ! have lsblk; then missing block missing_tool
    elif [ ! -d /sys/dev/block ]; then missing block no_sysfs
    elif rows=$(lsblk -J -b -e 1,7 -o NAME,TYPE,SIZE,RO,MODEL,FSTYPE,MOUNTPOINT 2>/dev/null); then
      section block; printf '%s\n' "$rows"
    else missing block lsblk_failed
    fi ;;
  time)
    section time
    echo "now $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "offset $(date +%z)"
    zone=$(readlink /etc/localtime)
    case $zone in
    *zoneinfo/*) echo "tz ${zone#*zoneinfo/}" ;;
    *)
      # Without /etc/localtime the C library takes UTC.
      if [ ! -e /etc/localtime ]; then echo "tz UTC"
      elif [ -r /etc/timezone ]; then echo "tz $(head -n 1 /etc/timezone)"
      fi ;;
    esac
    if ! have timedatectl || [ ! -d /run/systemd/system ]; then missing time.synced no_systemd
    elif synced=$(timeout -k 1 5 timedatectl show -p NTPSynchronized --value 2>/dev/null); then
      section synced; echo "synced $synced"
    else missing time.synced timedatectl_failed
    fi ;;
  reboot)
    running=$(uname -r)
    # The newest kernel of the running one's flavour (amd64, cloud-amd64, pve), the running one included.
    newest=$(
      { printf '%s\n' "$running"; printf '%s\n' /boot/vmlinuz-* | sed -n 's|^/boot/vmlinuz-||p'; } |
        sed 's/^\([^-]*-\([0-9][0-9]*-\)\{0,1\}\)\(.*\)/\3 \1\3/' |
        awk 'NR == 1 { own = $1 } $1 == own { print $2 }' | sort -V | tail -n 1
    )
    required=
    if [ -e /run/reboot-required ] || [ "$newest" != "$running" ]; then required=1
    # Only where something would leave the flag does its absence say anything.
    elif [ -e /usr/share/update-notifier/notify-reboot-required ] || [ -e /etc/kernel/postinst.d/unattended-upgrades ]
    then required=0
    fi
    if [ -z "$required" ]; then missing reboot no_notifier
    else
      section reboot
      echo "required $required"
      [ "$newest" = "$running" ] || echo "kernel $newest"
      if [ -r /run/reboot-required.pkgs ]; then section packages; sort -u /run/reboot-required.pkgs; fi
    fi ;;
  sessions)
    if ! have who; then missing sessions missing_tool
    elif [ ! -e /run/utmp ] && [ ! -d /run/systemd/sessions ]; then missing sessions no_utmp
    # Only outside the C locale does who print the year.
    elif rows=$(TZ=UTC0 LC_ALL=C.UTF-8 who -u 2>/dev/null); then section sessions; printf '%s\n' "$rows"
    else missing sessions who_failed
    fi ;;
  virtualization)
    # Its status is 1 where it finds none, and it says so.
    if have systemd-detect-virt; then
      section virtualization
      echo "vm $(systemd-detect-virt --vm 2>/dev/null)"
      echo "container $(systemd-detect-virt --container 2>/dev/null)"
    else missing virtualization missing_tool
    fi ;;
  esac
done
