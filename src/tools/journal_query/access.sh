# Prints why the system's journal cannot be read, nothing if it can. With -o json, journalctl itself is silent about both.
journal_access() {
	command -v journalctl >/dev/null || { echo missing_tool; return 0; }
	found=
	for d in /var/log/journal /var/log/journal/*/ /run/log/journal /run/log/journal/*/; do
		[ -d "$d" ] || continue
		[ -r "$d" ] && [ -x "$d" ] || { echo permission_denied; return 0; }
		for f in "$d"/*.journal; do
			[ -e "$f" ] || continue
			found=yes
			case ${f##*/} in system.journal | system@*) [ -r "$f" ] || { echo permission_denied; return 0; } ;; esac
		done
	done
	[ -n "$found" ] || echo no_journal
}
