pid=$1 start=$2 signal=$3 dry=$4 sudo=$5
if [ "$(uname -s)" != Linux ]; then missing process not_linux; return 0; fi
if [ ! -r /proc/self/stat ]; then missing process no_proc; return 0; fi
stat_of() { line=; { read -r line <"/proc/$1/stat"; } 2>/dev/null; [ -n "$line" ]; }
# Reads what proc(5) numbers 3 (state), 4 (ppid), 9 (flags) and 22 (start), behind the last parenthesis.
look() {
  stat_of "$1" || return 1
  set -- ${line##*) }
  state=$1 parent=$2 flags=$7 began=${20}
}
look "$pid" || { missing process not_found; return 0; }
section stat
printf '%s\n' "$line"
section owner
sed -n 's/^Uid:[^0-9]*[0-9]*[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null
section cmdline
head -c 600 "/proc/$pid/cmdline" 2>/dev/null | tr '\000-\037\177' ' '
section users
owner=$(sed -n 's/^Uid:[^0-9]*[0-9]*[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
[ -z "$owner" ] || getent passwd "$owner" || :

refuse() { section refused; echo "$1"; }
if [ "$began" != "$start" ]; then refuse start_ticks; return 0; fi
if [ $((flags & 2097152)) != 0 ]; then refuse kernel_thread; return 0; fi
# A thread has a directory too, but a signal to it reaches its whole process.
if ! grep -qs "^Tgid:[^0-9]*$pid\$" "/proc/$pid/status"; then refuse thread; return 0; fi
link=$$
while [ "${link:-0}" -gt 1 ]; do
  if [ "$link" = "$pid" ]; then refuse own_chain; return 0; fi
  stat_of "$link" || { refuse own_chain_unknown; return 0; }
  set -- ${line##*) }
  link=$2
done
if [ "$dry" = 1 ]; then section done; echo dry_run; return 0; fi

milliseconds() { read -r up rest </proc/uptime; fraction=${up#*.}; echo "${up%.*}${fraction}0"; }
# The last look before the signal: nothing but built-ins in between.
look "$pid" || { missing process not_found; return 0; }
if [ "$began" != "$start" ]; then refuse start_ticks; return 0; fi
if kill -s "$signal" "$pid" 2>/dev/null; then sent=direct
elif ! look "$pid" || [ "$began" != "$start" ]; then missing process not_found; return 0
elif [ "$sudo" = 1 ]; then
  command -v sudo >/dev/null || { refuse no_sudo; return 0; }
  sudo -n /bin/kill -s "$signal" -- "$pid" >/dev/null 2>&1 || { refuse sudo; return 0; }
  sent=sudo
else refuse not_permitted; return 0
fi
zero=$(milliseconds)
after=gone now=$zero pause=0.02
while look "$pid" && [ "$began" = "$start" ]; do
  now=$(milliseconds) after=$state
  case $signal-$state in *-[ZXx] | STOP-[Tt] | CONT-[!Tt]) break ;; esac
  [ $((now - zero)) -lt 2000 ] || break
  sleep "$pause"
  pause=0.1 after=gone
done
section done
echo "$sent $after $((now - zero))"
