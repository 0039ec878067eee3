
dir=$1 file=$2 expect=$3 how=$4 stem=$5; shift 5
no() { missing file "$1"; }
for tool in flock sha256sum find stat; do command -v "$tool" >/dev/null || { no missing_tool; return; }; done
walk "$dir" "$@" || { no "$why"; return; }
[ ! "$name" ] || { no not_found; return; }
case $at/ in */.tailops-trash/*) no trash; return;; esac
place=$at root=
for candidate in "$@"; do
    case $place/ in "${candidate%/}"/*) root=$candidate; break;; esac
done
command exec 6<. || { no denied; return; }
flock -w 10 6 || { no busy; return; }
case $(find "./$file" -prune -printf %y) in
    "") no not_found; return;;
    f) held "$at" "$file" || { no denied; return; };;
    l) no symlink; return;;
    *) no not_regular; return;;
esac
was=$facts before=unknown
set -- $facts
[ "$1" = 1 ] || { no hard_link; return; }
# A digest nobody asked for is not worth reading a huge file.
if [ "$expect" != any ] || [ "$2" -le 67108864 ]; then
    before=$(sha256sum <"/proc/self/fd/3") || { no denied; return; }
    before=${before%% *}
fi
[ "$expect" = any ] || [ "$before" = "$expect" ] || { no changed; return; }
[ -w . ] || { no read_only; return; }
section before
printf '%s\n%s\n' "$before" "$was"

# The trash: a directory that only the login user can enter, found the way every directory is.
walk "$root" "$root" || { no "$why"; return; }
trash=$root/.tailops-trash
if [ "$how" = run ]; then
    mkdir -m 0700 ./.tailops-trash
elif [ ! "$(find ./.tailops-trash -prune -printf %y)" ]; then
    [ -w . ] || { no bad_trash; return; }
    section end; return
fi
[ "$(find ./.tailops-trash -prune -printf '%y %m %U')" = "d 700 $(id -u)" ] || { no bad_trash; return; }
at=${root%/}/.tailops-trash
enter ./.tailops-trash && command exec 5<. || { no bad_trash; return; }
cd -P "/proc/self/fd/6" || { no denied; return; }
[ "$(stat -c %d "./$file")" = "$(stat -L -c %d "/proc/self/fd/5/.")" ] || { no other_filesystem; return; }
if [ "$how" = dry ]; then section end; return; fi

[ "$(find "/proc/self/cwd" -prune -printf %l/)" = "$place/" ] || { no denied; return; }
opened=$(stat -L -c %d:%i "/proc/self/fd/3")
[ "$(stat -c %d:%i "./$file")" = "$opened" ] || { no denied; return; }
entry=$(date -u +%Y%m%dT%H%M%SZ).$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n').$stem
mv -n -T -- "./$file" "/proc/self/fd/5/$entry" || { no read_only; return; }
# Whatever took the file's name in the last moment was moved as it is, a link as a link. It goes back.
if [ "$(stat -c %d:%i "/proc/self/fd/5/$entry")" != "$opened" ]; then
    mv -n -T -- "/proc/self/fd/5/$entry" "./$file"
    no exchanged; return
fi
sync . "/proc/self/fd/5/."
section trash
printf '%s\n' "${root%/}/.tailops-trash/$entry"
section end
