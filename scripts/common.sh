# Shared by the scripts beside it; sourced, never run.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
STAMPS=$VENV/.stamps
JOBS=${FUSEDMLP_JOBS:-$(nproc)}

# The wheel and the tests' builds compile the same files the same way: the second finds the first's objects.
use_ccache() {
  command -v ccache >/dev/null || return 0
  export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}
  export CMAKE_CUDA_COMPILER_LAUNCHER=${CMAKE_CUDA_COMPILER_LAUNCHER:-ccache}
  export CCACHE_DIR=${CCACHE_DIR:-$ROOT/build/ccache} CCACHE_BASEDIR=${CCACHE_BASEDIR:-$ROOT}
}
use_ccache

say() { printf '== %s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# done_already STAMP KEY: whether step STAMP last ended well with this key.
done_already() { [[ -f $STAMPS/$1 && $(<"$STAMPS/$1") == "$2" ]]; }

# stamp STAMP KEY: it has now.
stamp() {
  mkdir -p "$STAMPS"
  printf '%s\n' "$2" >"$STAMPS/$1"
}

# hash_of PATH...: one digest over the names and contents of all files there.
hash_of() {
  find "$@" -type f -not -path '*/__pycache__/*' -not -path 'python/fusedmlp/lib/*' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}
