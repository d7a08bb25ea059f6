#!/usr/bin/env bash
# Installs the database servers that tests/services runs against into build/services/databases, a virtual environment of its own.
set -euo pipefail

cd "$(dirname "$0")/../.."
place=build/services/databases
[ -x "$place/bin/secantusd-py" ] && exit 0
"${PYTHON:-python3}" -m venv "$place"
# Speaks MongoDB's protocol on MongoDB's storage engine; MongoDB itself is in no package registry.
"$place/bin/python" -m pip --disable-pip-version-check install --quiet SecantusDB
