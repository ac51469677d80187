#!/bin/sh
# Prints the folder that holds Postgres server programs (initdb, postgres), and sees to it that there is one:
# 1. CIPHERFLEET_PG_BINDIR, or what is installed;
# 2. installs with the system's package manager, when DEMO_INSTALL=yes, or as root in a container;
# 3. downloads prebuilt programs into a cache folder;
# 4. says what to install, and fails.
# Whatever it has to tell goes to standard error. DEMO_INSTALL=no forbids 2 and 3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
finder=$here/../../bin/find-postgres
(cd "$here" && go build -o "$finder" ./find)

find_programs() { "$finder" "${CIPHERFLEET_PG_BINDIR:-}"; }

in_container() {
	[ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ] || [ -n "${KUBERNETES_SERVICE_HOST:-}" ]
}

may_install() {
	case ${DEMO_INSTALL:-} in
	yes) return 0 ;;
	no) return 1 ;;
	esac
	[ "$(id -u)" = 0 ] && in_container
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian's package would create and start a cluster on port 5432, which nobody asked for.
install_debian() {
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common
	as_root sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
}

install_programs() {
	echo "No Postgres server programs found: installing them." >&2
	if command -v apt-get; then install_debian
	elif command -v dnf; then as_root dnf install -y -q postgresql-server postgresql-contrib
	elif command -v apk; then as_root apk add -q postgresql postgresql-contrib
	elif command -v zypper; then as_root zypper -q install -y postgresql-server postgresql-contrib
	elif command -v pacman; then as_root pacman -Sy --noconfirm postgresql
	elif command -v brew; then brew install -q postgresql@17
	else return 1
	fi
}

# The server runs as another user when we are root, and must be able to enter the folder.
download_programs() {
	echo "No Postgres server programs found: downloading them." >&2
	cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/cipherfleet/postgres
	[ "$(id -u)" != 0 ] || cache=/var/cache/cipherfleet/postgres
	(cd "$here/download" && go build -o "$finder-download" .) && "$finder-download" "$cache"
}

if [ -n "${CIPHERFLEET_PG_BINDIR:-}" ]; then
	find_programs
	exit
fi
if programs=$(find_programs 2>/dev/null); then
	echo "$programs"
	exit
fi
if may_install && install_programs >&2; then
	find_programs
	exit
fi
if [ "${DEMO_INSTALL:-}" != no ] && download_programs; then exit; fi
find_programs # says what to install
