# The newest sign that apt fetched its package lists, and the time now. Files of the lists carry the archive's time.
lists_age() {
	newest=0
	for at in $(stat -c %Y /var/lib/apt/lists /var/lib/apt/lists/partial /var/cache/apt/pkgcache.bin /var/lib/apt/periodic/update-success-stamp 2>/dev/null); do
		[ "$at" -le "$newest" ] || newest=$at
	done
	[ "$newest" -eq 0 ] || echo "$newest"
	date +%s
}
