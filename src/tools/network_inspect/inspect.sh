rights=$1; shift
have() { command -v "$1" >/dev/null; }
# A command whose output is only shown if it ended well: section, reason otherwise, command.
shown() {
	name=$1 reason=$2
	shift 2
	if out=$("$@" 2>/dev/null); then section "$name"; printf '%s\n' "$out"; else missing "${name%%.*}" "$reason"; fi
}
file() { if [ -r "$2" ]; then section "$1"; head -c 262144 -- "$2"; else missing "${1%%.*}" unreadable; fi; }
for part in "$@"; do
	case $part in
	interfaces)
		if have ip; then shown interfaces.ip ip_failed ip -j addr; else
			section interfaces.sys
			for d in /sys/class/net/*; do
				[ -e "$d/mtu" ] || continue
				printf '%s %s %s %s\n' "${d##*/}" "$(cat "$d/operstate")" "$(cat "$d/mtu")" "$(cat "$d/address" 2>/dev/null)"
			done
			[ -r /proc/net/if_inet6 ] && { section interfaces.inet6; cat /proc/net/if_inet6; }
			missing interfaces.ipv4_addresses missing_tool
		fi ;;
	routes)
		if have ip; then
			shown routes.ip4 ip_failed ip -j -4 route show table all
			if [ -e /proc/net/if_inet6 ]; then shown routes.ip6 ip_failed ip -j -6 route show table all; fi
		else
			file routes.proc4 /proc/net/route
			[ ! -e /proc/net/ipv6_route ] || file routes.proc6 /proc/net/ipv6_route
		fi ;;
	neighbours) if have ip; then shown neighbours.ip ip_failed ip -j neigh; else file neighbours.proc /proc/net/arp; fi ;;
	dns) file dns /etc/resolv.conf ;;
	counters)
		file counters.dev /proc/net/dev
		file counters.snmp /proc/net/snmp ;;
	firewall)
		if [ "$rights" = sudo ] && [ "$(id -u)" != 0 ]; then set -- sudo -n; else set -- env; fi
		if have nft; then shown firewall.nft permission_denied "$@" nft -j list ruleset
		elif have iptables-save; then shown firewall.iptables permission_denied "$@" iptables-save
		else missing firewall missing_tool; fi ;;
	tailnet)
		if ! have tailscale; then missing tailnet missing_tool
		elif out=$(timeout 10 tailscale status --json 2>/dev/null); then
			# Of a large tailnet only this host's own end, or there is no room for the rest.
			if [ "${#out}" -gt 262144 ]; then
				missing tailnet.peers too_many
				out=$(timeout 10 tailscale status --json --peers=false 2>/dev/null) || out=
			fi
			section tailnet
			printf '%s\n' "$out"
		else missing tailnet daemon_unreachable; fi ;;
	sockets)
		if have ss; then
			[ "$(id -u)" = 0 ] || missing sockets.processes permission_denied
			shown sockets.listen ss_failed ss -H -O -ltunp
			shown sockets.other ss_failed ss -H -O -tunp
		else
			missing sockets.processes missing_tool
			for p in tcp tcp6 udp udp6; do [ ! -e "/proc/net/$p" ] || file "sockets.$p" "/proc/net/$p"; done
		fi ;;
	esac
done
