address=$1 url=$2 method=$3 port=$4
command -v curl >/dev/null || { missing http missing_tool; return 0; }
case $address in *:*) pin="[$address]" ;; *) pin=$address ;; esac
# -q keeps the user's .curlrc out, which could name a proxy or turn redirects on.
set -- -q -s -g --path-as-is --http1.1 --proto =http,https --noproxy '*' --max-redirs 0 --connect-timeout 5 --max-time 10 -A tailops -o - -w '%{stderr}%{json}'
[ "$method" != HEAD ] || set -- "$@" -I
# Whatever the URL's host, this is where the connection goes: curl never looks a name up.
set -- "$@" --connect-to "::$pin:$port"
section http
{ { curl "$@" -- "$url" 2>&3; printf '\nexit %s\n' "$?" >&3; } | head -c 65536 >/dev/null; } 3>&1
