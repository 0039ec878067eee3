act=$1 key=$2 other=$3
say() { section result; printf '%s\n' "$1"; }
if [ "$act" = login ]; then say login; return 0; fi

# There is no HOME here, and sshd takes the directory from the same place.
uid=$(id -u) || return 1
if command -v getent >/dev/null 2>&1; then
  entry=$(getent passwd "$uid")
else
  entry=$(grep "^[^:]*:[^:]*:$uid:" /etc/passwd | head -n 1)
fi
home=$(printf '%s\n' "$entry" | head -n 1 | cut -d: -f6)
case $home in /*) ;; *) missing result no_home; return 0 ;; esac
dir=$home/.ssh file=$home/.ssh/authorized_keys
if [ -L "$dir" ] || [ -L "$file" ]; then missing result symlink; return 0; fi
if [ ! -d "$dir" ] || [ ! -f "$file" ]; then missing result no_file; return 0; fi
if [ ! -O "$dir" ] || [ ! -O "$file" ]; then missing result foreign_owner; return 0; fi
if [ ! -r "$file" ] || [ ! -w "$file" ] || [ ! -w "$dir" ]; then missing result not_writable; return 0; fi
size=$(wc -c <"$file") || return 1
if [ "$size" -gt 1048576 ]; then missing result too_large; return 0; fi
if [ "$(tr -d '\000' <"$file" | wc -c)" -ne "$size" ]; then missing result not_text; return 0; fi

tab=$(printf '\t')
# Whether line $1 is one of key $2; sets what stands before and after the key.
is_of() {
  case $1 in "#"*) return 1 ;; *"$2"*) ;; *) return 1 ;; esac
  before=${1%%"$2"*} after=${1#*"$2"}
  case $before in "" | *" " | *"$tab") ;; *) return 1 ;; esac
  case $after in "" | " "* | "$tab"*) ;; *) return 1 ;; esac
  # In the middle of a quoted option it is no key.
  rest=$before quoted=0
  while :; do
    case $rest in *'"'*) ;; *) break ;; esac
    case ${rest%%'"'*} in *\\) ;; *) quoted=$((1 - quoted)) ;; esac
    rest=${rest#*'"'}
  done
  [ "$quoted" = 0 ]
}

found=0 others=0
while IFS= read -r line || [ -n "$line" ]; do
  if is_of "$line" "$key"; then found=$((found + 1)); fi
  if [ -n "$other" ] && is_of "$line" "$other"; then others=$((others + 1)); fi
done <"$file"
case $act in
look) if [ "$found" -gt 0 ]; then say found; else missing result not_found; fi; return 0 ;;
add)
  if [ "$others" -gt 0 ]; then say present; return 0; fi
  if [ "$found" -eq 0 ]; then missing result not_found; return 0; fi ;;
drop)
  if [ "$found" -eq 0 ]; then say absent; return 0; fi
  if [ "$others" -eq 0 ]; then missing result would_lock_out; return 0; fi ;;
*) return 1 ;;
esac

was=$(mktemp "$dir/.tailops.XXXXXX") || { missing result not_writable; return 0; }
trap 'rm -f -- "$was" "$was.new"' EXIT
cat <"$file" >"$was" || { missing result not_writable; return 0; }
lines=0 bad=0
while IFS= read -r line || [ -n "$line" ]; do
  if is_of "$line" "$key"; then
    case $act in
    drop) continue ;;
    add) printf '%s%s%s\n' "$before" "$other" "$after" || bad=1; lines=$((lines + 1)) ;;
    esac
  fi
  printf '%s\n' "$line" || bad=1
  lines=$((lines + 1))
done <"$was" >"$was.new"
if [ "$bad" != 0 ] || [ "$(wc -l <"$was.new")" -ne "$lines" ]; then missing result not_writable; return 0; fi
chmod 0600 "$was.new" || return 1
# Somebody else may have been at it meanwhile.
if [ -L "$file" ] || ! cmp -s "$was" "$file"; then missing result changed; return 0; fi
mv -f -- "$was.new" "$file" || { missing result not_writable; return 0; }
sync "$file" "$dir" 2>/dev/null || sync
case $act in add) say added ;; drop) say dropped ;; esac
