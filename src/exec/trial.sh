section who
id -un

section systemd
if [ -d /run/systemd/system ]; then echo 1; else echo 0; fi

if [ "$1" = 1 ]; then
  section sudo
  # Lists what is allowed and runs none of it.
  if command -v sudo >/dev/null && timeout 5 sudo -n -l >/dev/null 2>&1; then echo 1; else echo 0; fi
fi
