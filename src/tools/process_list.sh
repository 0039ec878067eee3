sort=$1 match=$2 user=$3 limit=$4
if [ "$(uname -s)" != Linux ]; then missing sample not_linux; return 0; fi
if ! cd /proc || [ ! -r self/stat ]; then missing sample no_proc; return 0; fi
uid=
case $user in
'') ;;
*[!0-9]*) uid=$(id -u -- "$user" 2>/dev/null) || { missing user unknown_user; return 0; } ;;
*) uid=$user ;;
esac
if [ "$(id -u)" != 0 ] && grep -q '^[^ ]* /proc proc [^ ]*hidepid=[^0 ,]' mounts; then
  missing other_users hidepid
fi
[ -e self/io ] || missing io not_supported

# The measurement's root: this shell, or the timeout that started it.
top=$$
read -r line <$$/stat
set -- ${line##*) }
case $(cat "$2/comm" 2>/dev/null) in timeout) top=$2 ;; esac

# Prints a name a line for each process: its file $1 below /proc. Processes come and go: readers stay silent on those.
files() { printf '%s\n' [0-9]* | sed "s|\$|/$1|"; }
uids() { xargs -r grep -Hs '^Uid:'; }
arguments() { xargs -r grep -azHs '' | tr '\n\000' ' \n'; }
sample() {
  read -r up rest <uptime
  echo "@ $up"
  files stat | xargs -r cat 2>/dev/null
  files io | xargs -r grep -Hs '^\(read\|write\)_bytes:'
}

rows=$(
  { sample
    sleep 0.5
    sample
    [ -z "$uid" ] || files status | uids
    [ -z "$match" ] || files cmdline | arguments
  } | TOP=$top SORT=$sort MATCH=$match OWNER=$uid LIMIT=$limit HZ=$(getconf CLK_TCK) PAGE=$(getconf PAGESIZE) awk '
    function above(pid,   steps) {
      while (pid in parent && steps++ < 4096) { if (pid == top) return 1; pid = parent[pid] }
      return 0
    }
    function named(stat) { sub(/^[0-9]* \(/, "", stat); sub(/\)[^)]*$/, "", stat); return stat }
    # What process pid did since the first sample; one that was not there before has done all of it since.
    function since(pid, first, second) {
      if (!(pid in second) || (same[pid] && !(pid in first))) return -1
      return second[pid] - (same[pid] ? first[pid] : 0)
    }
    BEGIN {
      top = ENVIRON["TOP"]; order = ENVIRON["SORT"]; substring = ENVIRON["MATCH"]; owner = ENVIRON["OWNER"]
    }
    /^@ / { began[++pass] = $2 + 0; next }
    /^[0-9]+ \(/ {
      pid = $1
      if (!match($0, /.*\)/) || split(substr($0, RLENGTH + 2), f, " ") < 22) next
      if (pass == 1) { start1[pid] = f[20]; ticks1[pid] = f[12] + f[13]; next }
      same[pid] = (pid in start1) && start1[pid] == f[20]
      raw[pid] = $0; parent[pid] = f[2]; state[pid] = f[1]; threads[pid] = f[18]; age[pid] = f[20]; rss[pid] = f[22]
      ticks2[pid] = f[12] + f[13]
      next
    }
    { split($1, path, /[\/:]/); pid = path[1]; kind = path[2] }
    kind == "io" && path[3] == "read_bytes" { if (pass == 1) got1[pid] = $2 + 0; else got2[pid] = $2 + 0 }
    kind == "io" && path[3] == "write_bytes" { if (pass == 1) put1[pid] = $2 + 0; else put2[pid] = $2 + 0 }
    kind == "status" { uid[pid] = $3 }
    kind == "cmdline" { sub(/^[0-9]+\/cmdline:/, ""); command[pid] = (pid in command) ? command[pid] " " $0 : $0 }
    END {
      for (pid in raw) {
        if (above(pid)) continue
        count[state[pid]]++; all += threads[pid]
        if (owner != "" && uid[pid] != owner) continue
        if (substring != "" && !index(named(raw[pid]), substring) && !index(command[pid], substring)) continue
        matched++; chosen[pid] = 1
      }
      printf "%.0f %s %s %.2f %d %d", (began[2] - began[1]) * 1000, ENVIRON["HZ"], ENVIRON["PAGE"], began[2], matched, all
      for (letter in count) printf " %s=%d", letter, count[letter]
      print ""
      fflush()
      ranking = "sort -k1,1nr -k2,2n | head -n " (ENVIRON["LIMIT"] + 0)
      for (pid in chosen) {
        used = since(pid, ticks1, ticks2); if (used < 0) used = 0
        got = since(pid, got1, got2); put = since(pid, put1, put2)
        if (order == "mem") key = rss[pid]
        else if (order == "age") key = -age[pid]
        else if (order == "io") key = (got < 0 || put < 0) ? -1 : got + put
        else key = used
        printf "%.0f %s %.0f %.0f %.0f %s\n", key, pid, used, got, put, raw[pid] | ranking
      }
      close(ranking)
    }'
)
section sample
printf '%s\n' "$rows"

picked() { printf '%s\n' "$rows" | awk -v file="$1" 'NR > 1 { print $2 "/" file }'; }
details=$(
  { picked status | uids; picked cmdline | arguments; } | awk '
    { split($1, path, /[\/:]/); pid = path[1] }
    path[2] == "status" { uid[pid] = $3 }
    path[2] == "cmdline" && length(command[pid]) < 600 { sub(/^[0-9]+\/cmdline:/, ""); command[pid] = command[pid] " " $0 }
    END {
      for (pid in uid) {
        shown = substr(command[pid], 2, 600)
        gsub(/[\001-\037\177]/, " ", shown)
        print pid, uid[pid], shown
      }
    }'
)
section detail
printf '%s\n' "$details"
uids=$(printf '%s\n' "$details" | awk '$2 ~ /^[0-9]+$/ && !seen[$2]++ { print $2 }')
if [ -n "$uids" ]; then
  section users
  # A uid without a name is left out of the list, and getent says so by its status.
  getent passwd $uids || :
fi
