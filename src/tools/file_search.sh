
path=$1 contains=$2 like=$3 min=$4 newer=$5 limit=$6; shift 6
walk "$path" "$@" || { missing file "$why"; return; }
[ ! "$name" ] || { missing file not_directory; return; }
[ -r . ] || { missing file denied; return; }
# Everything that is asked of names and facts; the trash is not searched.
set -- -name .tailops-trash -prune -o
[ ! "$like" ] || set -- "$@" -name "$like"
[ ! "$newer" ] || set -- "$@" -newermt "@$newer"
[ "$min" = 0 ] || set -- "$@" -type f -size "+$((min - 1))c"
if [ ! "$contains" ]; then
    section entries
    {
        timeout 30 find . -xdev -ignore_readdir_race -mindepth 1 "$@" -printf '1000%P//%y\t%s\t%T@\t%m\t%u\t%g\t%n\t%l\t\0'
        printf '0s %s\0' "$?"
    } | sed -z '100001{s/.*/0t/;q}' | sort -z |
        { sed -z -e '/^0[st]/b' -e "$((limit + 3)),\$d" | head -c 700000; } | base64 -w 0
    section end
    return
fi
lines='
at=$1 contains=$2; shift 2
for path do
    path=${path#./}
    held "$at" "$path" && [ "${facts%% *}" = 1 ] || continue
    printf "1%s\0" "$path"
    grep -IFn -m 21 -e "$contains" <&3 | cut -b -1000 | sed "s/^/2/" | tr "\0\n" "?\0"
done'
# Two looks: grep by name says in which files it may be; then each of those is opened and checked as file_read does it,
# and only what was so opened is shown. A file over 16 MiB is not looked into.
section matches
{
    ended=$({
        {
            timeout 30 find . -xdev -ignore_readdir_race -mindepth 1 "$@" -type f -links 1 -size -16777217c \
                \( -readable -print0 -o -fprintf /proc/self/fd/8 . \)
            echo " find=$? " >&8
        } | { timeout 40 xargs -0 -r grep -IlZsF -D skip -m 1 -e "$contains" --; echo " grep=$? " >&8; } |
            head -z -n "$((limit + 1))" |
            { timeout 40 xargs -0 -r sh -c "exec 2>/dev/null$held_too$lines" sh "$at" "$contains"; echo " show=$? " >&8; }
    } 8>&1 >&7)
    printf '0%s\0' "$ended"
} 7>&1 | head -c 700000 | base64 -w 0
section end
