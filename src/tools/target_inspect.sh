sudo=$1; shift
section host
echo "hostname $(uname -n)"
echo "system $(uname -s)"
echo "kernel $(uname -r)"
echo "machine $(uname -m)"
echo "user $(id -un 2>/dev/null || id -u)"
echo "groups $(id -Gn 2>/dev/null || id -G)"
[ ! -r /proc/sys/kernel/random/boot_id ] || echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
if [ -r /etc/os-release ]; then echo "os $(. /etc/os-release; printf %s "$PRETTY_NAME" | tr '\n' ' ')"
else missing os missing_file
fi

if command -v systemctl >/dev/null; then
  section systemd
  systemctl --version | awk 'NR == 1 { print "version", $2 }'
  if [ -d /run/systemd/system ]; then echo "running 1"; else echo "running 0"; fi
else missing systemd no_systemd
fi

if ! command -v journalctl >/dev/null; then missing journal missing_tool
else
  found= readable=
  for file in /var/log/journal/*/system.journal /run/log/journal/*/system.journal; do
    [ ! -e "$file" ] || found=1
    [ ! -r "$file" ] || readable=1
  done
  # A folder that may not be listed hides its files; only its owner's group may tell.
  for folder in /var/log/journal /run/log/journal; do
    [ ! -d "$folder" ] || [ -r "$folder" ] || found=1
  done
  if [ -n "$readable" ]; then section journal; echo "readable 1"
  elif [ -n "$found" ]; then section journal; echo "readable 0"
  else missing journal no_journal
  fi
fi

section tools
for tool in "$@"; do
  if command -v "$tool" >/dev/null; then echo "$tool"; fi
done

if [ "$sudo" = 1 ]; then
  if ! command -v sudo >/dev/null; then missing sudo missing_tool
  else
    section sudo
    # Lists what is allowed and runs none of it.
    if timeout 5 sudo -n -l >/dev/null 2>&1; then echo "possible 1"; else echo "possible 0"; fi
  fi
fi
