# Makes a host of its own in $FAKE: a root for dpkg, an archive with small packages, and an apt that knows only these.
set -eu
cd "$FAKE"
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates root/var/log root/etc lists/partial cache/archives/partial etc repo none
touch root/var/lib/dpkg/status root/var/lib/dpkg/available
# NAME VERSION LINES…
package() {
	mkdir -p "build/DEBIAN" "build/lib/systemd/system"
	name=$1 version=$2
	shift 2
	{ printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Lab <lab@example.org>\nDescription: lab\n' "$name" "$version"; for line in "$@"; do printf '%s\n' "$line"; done; } >build/DEBIAN/control
	printf '[Service]\nExecStart=/bin/true\n' >"build/lib/systemd/system/$name.service"
	dpkg-deb --root-owner-group -b build "repo/${name}_$version.deb" >/dev/null
	rm -r build
}
package alpha 1.0
package alpha 2.0
package beta 1.0 'Depends: alpha'
package gamma 1.0 'Conflicts: beta'
package base-thing 1.0 'Essential: yes'
package tailops-lab 1.0
package broken 1.0 'Depends: no-such-thing'
package libg++ 1.0
index() {
	for deb in repo/*.deb; do
		dpkg-deb -f "$deb"
		printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "./${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -c 1-64)"
	done >repo/Packages
}
index
echo "deb [trusted=yes] file:$FAKE/repo ./" >sources.list
cat >apt.conf <<END
Dir::State::lists "$FAKE/lists"; Dir::State::status "$FAKE/root/var/lib/dpkg/status"; Dir::State::extended_states "$FAKE/extended";
Dir::Cache "$FAKE/cache"; Dir::Log "$FAKE/root/var/log"; Dir::Etc::sourcelist "$FAKE/sources.list"; Dir::Etc::sourceparts "$FAKE/none";
Dir::Etc::preferencesparts "$FAKE/none"; Dir::Etc::parts "$FAKE/none"; APT::Sandbox::User "root"; Acquire::Languages "none"; APT::Architecture "amd64"; APT::Architectures { "amd64"; };
DPkg::Options { "--root=$FAKE/root"; "--log=$FAKE/dpkg.log"; "--force-not-root"; }; DPkg::Path "/usr/sbin:/usr/bin:/sbin:/bin";
END
apt-get update -q >/dev/null
apt-get -y -q install -- base-thing tailops-lab >/dev/null
