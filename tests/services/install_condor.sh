#!/usr/bin/env bash
# Installs HTCondor for tests/services/condor_tests.py, as root. Debian 12 has none: that of the next release is put into a folder of
# its own (300 MB), and its programs are told to use the libraries there, so that jobs see this host's own files and Python.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.services/condor
[ -e "$root/.ready" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "tests/services/install_condor.sh makes a root folder of another release: run it as root." >&2
    exit 1
fi

missing=()
for package in mmdebstrap patchelf; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"
fi

# From where this host has its own packages.
uri=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
[ -n "$uri" ] || uri=$(awk '/^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' /etc/apt/sources.list)
rm -rf "$root"
mkdir -p "$root"
mmdebstrap --quiet --variant=minbase --include=condor --skip=check/empty trixie "$root/trixie" "deb $uri trixie main"

lib="$root/trixie/usr/lib/x86_64-linux-gnu"
mkdir -p "$root"/{bin,sbin,libexec,lib}
cp -a "$root"/trixie/usr/bin/condor_* "$root"/trixie/usr/bin/classad_* "$root/bin/"
cp -a "$root"/trixie/usr/sbin/condor_* "$root/sbin/"
cp -a "$root"/trixie/usr/libexec/condor/. "$root/libexec/"
for program in "$root"/bin/* "$root"/sbin/* "$root"/libexec/*; do
    if [ -f "$program" ] && [ ! -L "$program" ] && head -c4 "$program" | grep -q ELF &&
        patchelf --print-interpreter "$program" >/dev/null 2>&1; then
        patchelf --set-interpreter "$root/trixie/lib64/ld-linux-x86-64.so.2" --force-rpath \
            --set-rpath "$lib:$root/trixie/usr/lib:$lib/condor" "$program"
    fi
done
touch "$root/.ready"
