
dir=$1 file=$2 mode=$3 expect=$4 sum=$5 size=$6 how=$7 stem=$8; shift 8
no() { missing file "$1"; }
# Why a program could not write, from what it said.
reason() {
    case $1 in
        *"No space"*) echo no_space;;
        *uota*) echo quota;;
        *"ermission denied"* | *"not permitted"* | *"Read-only"*) echo read_only;;
        *) echo damaged;;
    esac
}
digest() { digested=$(sha256sum <"/proc/self/fd/$1") && digested=${digested%% *}; }
for tool in flock sha256sum find stat; do command -v "$tool" >/dev/null || { no missing_tool; return; }; done

walk "$dir" "$@" || { no "$why"; return; }
[ ! "$name" ] || { no not_found; return; }
case $at/ in */.tailops-trash/*) no trash; return;; esac
# One write at a time in this directory, so that what is expected still holds when it is replaced.
command exec 9<. || { no denied; return; }
flock -w 10 9 || { no busy; return; }

before=absent was= owner=
case $(find "./$file" -prune -printf %y) in
    "") ;;
    f)
        held "$at" "$file" || { no denied; return; }
        was=$facts owner=$(stat -L -c %u:%g "/proc/self/fd/3")
        set -- $facts
        [ "$1" = 1 ] || { no hard_link; return; }
        [ "$2" -le 67108864 ] || { no too_large; return; }
        digest 3 || { no denied; return; }
        before=$digested;;
    l) no symlink; return;;
    *) no not_regular; return;;
esac
case $expect in
    any) ;;
    absent) [ "$before" = absent ] || { no exists; return; };;
    *) [ "$before" = "$expect" ] || { no changed; return; };;
esac
[ -w . ] || { no read_only; return; }
section before
printf '%s\n%s\n' "$before" "$was"
section room
df --output=avail -B1 . | tail -n 1
backup=.$stem.tailops-bak
if [ "$how" = dry ]; then section end; return; fi

random=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
new=.tailops-new.$random old=.tailops-old.$random
trap 'rm -f -- "./$new" "./$old"' EXIT
trap 'exit 143' TERM INT HUP
# Opened only where nothing is: a link that someone puts there is not followed.
set -C
if ! command exec 4>"./$new"; then
    said=$(mktemp ./.tailops-new.XXXXXXXX 2>&1) && rm -f -- "$said"
    no "$(reason "$said")"; return
fi
said=$(head -c "$((size + 1))" 2>&1 >&4) || { no "$(reason "$said")"; return; }
digest 4 && [ "$digested" = "$sum" ] || { no damaged; return; }
if [ "$before" != absent ]; then
    command exec 5>"./$old" || { no backup; return; }
    said=$(head -c 67108865 2>&1 <"/proc/self/fd/3" >&5) || { no "$(reason "$said")"; return; }
    digest 5 && [ "$digested" = "$before" ] || { no changed; return; }
    # Only root can keep another owner; for everyone else the file becomes their own.
    chown "$owner" "/proc/self/fd/4" "/proc/self/fd/5"
    chmod 0600 "/proc/self/fd/5" || { no backup; return; }
fi
set +C
# After the owner, which changing takes bits away: nothing but these bits is set.
chmod "$mode" "/proc/self/fd/4" || { no damaged; return; }
said=$(sync "/proc/self/fd/4" 2>&1) || { no "$(reason "$said")"; return; }
[ "$(find "/proc/self/cwd" -prune -printf %l/)" = "$at/" ] || { no denied; return; }
if [ "$before" = absent ]; then
    # Unlike a rename, a link replaces nothing.
    ln -T -- "./$new" "./$file" || { if [ -e "./$file" ] || [ -L "./$file" ]; then no exists; else no damaged; fi; return; }
    rm -f -- "./$new"
else
    [ "$(stat -c %d:%i "./$file")" = "$(stat -L -c %d:%i "/proc/self/fd/3")" ] || { no denied; return; }
    mv -T -f -- "./$old" "./$backup" || { no backup; return; }
    # A rename replaces a name: what a link in its place leads to is not touched.
    mv -T -f -- "./$new" "./$file" || { no damaged; return; }
fi
sync .
section after
stat -L -c '%h %s %Y %a %U' "/proc/self/fd/4"
section end
