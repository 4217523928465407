#!/usr/bin/env bash
# Makes everything that `make run` and `make test` need: system packages, .venv, and fusedmlp's wheel in it.
# Each step is left out when what it would make is there already.
set -euo pipefail
source "$(dirname "$0")/common.sh"
SECONDS=0

install_packages() {
  local packages missing=() sudo=()
  mapfile -t packages < <(grep -v '^#' scripts/apt-packages.txt)
  command -v dpkg-query >/dev/null || die "this is no Debian or Ubuntu: install by hand: ${packages[*]}"
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "system packages: installing ${missing[*]}"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "not root and no sudo here; as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The first Python that can make a virtual environment; PYTHON=... chooses another.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 /usr/bin/python3}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python >= 3.10 with venv among: ${PYTHON:-python3 /usr/bin/python3} (apt-get install python3-venv)"
}

make_venv() {
  local key
  key=$(hash_of scripts/requirements.txt scripts/requirements-no-deps.txt)
  if done_already requirements "$key" && "$VENV/bin/python" -c '' 2>/dev/null; then
    return
  fi
  if ! "$VENV/bin/python" -c '' 2>/dev/null; then
    local python
    python=$(find_python)
    say ".venv: $("$python" --version) from $python"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
  fi
  say ".venv: installing scripts/requirements.txt (torch is large: minutes on a slow line)"
  "$VENV/bin/python" -m pip install -qq -r scripts/requirements.txt
  "$VENV/bin/python" -m pip install -qq --no-deps -r scripts/requirements-no-deps.txt
  stamp requirements "$key"
}

install_wheel() {
  local key
  key=$(hash_of CMakeLists.txt cmake include src python pyproject.toml LICENSE scripts/requirements.txt)
  if done_already wheel "$key"; then
    return
  fi
  say "wheel: building and installing fusedmlp ($JOBS jobs)"
  local wheels=$ROOT/build/dist log=$ROOT/build/wheel.log
  rm -rf "$wheels"
  mkdir -p "$wheels"
  if ! PATH="$VENV/bin:$PATH" CMAKE_BUILD_PARALLEL_LEVEL=$JOBS \
    "$VENV/bin/python" -m pip wheel -v --no-build-isolation --no-deps --wheel-dir "$wheels" . >"$log" 2>&1; then
    grep -E 'error|FAILED|CMake Error' -A 3 "$log" | head -40 >&2 || tail -40 "$log" >&2
    die "the wheel did not build; all of its output: build/wheel.log"
  fi
  "$VENV/bin/python" -m pip install -qq --no-deps --force-reinstall "$wheels"/fusedmlp-*.whl
  stamp wheel "$key"
}

install_packages
use_ccache
make_venv
install_wheel
say "setup: ready after ${SECONDS} s ($("$VENV/bin/fusedmlp" --version 2>/dev/null || echo 'fusedmlp'), .venv)"
