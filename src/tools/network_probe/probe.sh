address=$1 kind=$2 port=$3 count=$4 name=$5
have() { command -v "$1" >/dev/null || { missing "$kind" missing_tool; return 1; }; }
case $kind in
ping)
	have ping || return 0
	section ping
	timeout 20 ping -n -c "$count" -W 2 -- "$address" 2>&1 ;;
trace)
	have tracepath || return 0
	section trace
	timeout 45 tracepath -n -m 20 "$address" 2>&1 ;;
tcp)
	have bash || return 0
	section tcp
	while [ "$count" -gt 0 ]; do
		count=$((count - 1))
		# Bash opens the connection and takes the time itself; a child that is started does not count.
		if out=$(timeout 1 bash -c 'a=$EPOCHREALTIME; exec 3<>"/dev/tcp/$1/$2" && b=$EPOCHREALTIME && echo "$((${b/./} - ${a/./}))"' _ "$address" "$port" 2>&1)
		then printf 'made %s\n' "$out"
		else
			case $?:$out in
			124:*) echo 'failed timed_out' ;;
			*'Connection refused'*) echo 'failed connection_refused' ;;
			*'No route to host'*) echo 'failed host_unreachable' ;;
			*'Network is unreachable'* | *'Cannot assign requested'*) echo 'failed network_unreachable' ;;
			*) echo 'failed connection_failed' ;;
			esac
		fi
		[ "$count" = 0 ] || sleep 0.1
	done ;;
tls)
	have openssl || return 0
	case $address in *:*) at="[$address]:$port" ;; *) at=$address:$port ;; esac
	if [ -n "$name" ]; then set -- -servername "$name" -verify_hostname "$name"; else set -- -noservername -verify_ip "$address"; fi
	section tls
	timeout 10 openssl s_client -connect "$at" "$@" </dev/null 2>/dev/null | head -c 65536 ;;
dns)
	have getent || return 0
	section dns
	timeout 5 getent ahosts "$name"
	printf 'status %s\n' "$?" ;;
esac
return 0
