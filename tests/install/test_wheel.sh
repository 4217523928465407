#!/usr/bin/env bash
# Installs the wheel into a fresh virtual environment outside the tree and uses it there. torch and pytest are
# lent by VENV through a path file, so nothing is downloaded.
#   tests/install/test_wheel.sh VENV WHEEL
set -euo pipefail
venv=$(realpath -s "$1")
wheel=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$venv/bin/python" -m venv --without-pip "$fresh/venv"
python=$fresh/venv/bin/python
"$venv/bin/python" -m pip --python "$python" install -q --no-deps --no-index "$wheel"
site='import sysconfig; print(sysconfig.get_paths()["purelib"])'
"$venv/bin/python" -c "$site" >"$("$python" -c "$site")/lent.pth"

cp "$here/wheel_checks.py" "$fresh/"
cd "$fresh"
FUSEDMLP_TEST_WHEEL=$wheel "$python" -m pytest -q -p no:cacheprovider wheel_checks.py
