#!/usr/bin/env bash
# Installs the real services that tests/services runs against. Debian or Ubuntu, as root; what is there already is left alone.
set -euo pipefail

"$(dirname "$0")/install_databases.sh"  # from the Python package index, not from the distribution

packages=(
    openssh-server openssh-client  # tunnels, and programs started on other hosts
    iproute2 util-linux            # the bed of separate hosts: ip, nsenter, unshare, setpriv
    openmpi-bin                    # mpiexec; mpi4py of the project's environment finds its library
    slurm-wlm slurmctld slurmd slurm-client munge           # Slurm
    gridengine-master gridengine-exec gridengine-client     # Grid Engine
)

# A second MPI, apart from the first in an environment of its own: mpi4py takes the library it finds first.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python="$root/.venv/bin/python"
if [ ! -e "$root/.services/mpich/.ready" ]; then
    [ -x "$python" ] || python=python3
    "$python" -m venv "$root/.services/mpich"
    "$root/.services/mpich/bin/python" -m pip --disable-pip-version-check install --quiet mpich mpi4py numpy --editable "$root"
    touch "$root/.services/mpich/.ready"
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "tests/services needs ${missing[*]}, and root for its network namespaces: run it as root." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -qq
apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"
