#!/usr/bin/env bash
# Format of C++ (clang-format) and Python (black, where it is installed), the tree's structure, and clang-tidy.
#   scripts/lint.sh          checks
#   scripts/lint.sh --fix    rewrites to the format instead
set -euo pipefail
source "$(dirname "$0")/common.sh"

mapfile -t cpp < <(git ls-files -co --exclude-standard -- '*.h' '*.cpp' '*.c' '*.cu' '*.cuh')
mapfile -t python < <(git ls-files -co --exclude-standard -- '*.py')
command -v clang-format >/dev/null || die "clang-format is not here: apt-get install clang-format clang-tidy"

if [[ ${1:-} == --fix ]]; then
  clang-format -i "${cpp[@]}"
  if command -v black >/dev/null; then black -q "${python[@]}"; fi
  exit
fi

failed=0
say "clang-format: ${#cpp[@]} files"
clang-format --dry-run --Werror "${cpp[@]}" || failed=1
if command -v black >/dev/null; then
  say "black: ${#python[@]} files"
  black -q --check "${python[@]}" || failed=1
fi
say "structure"
python3 tests/structure/arrows.py . || failed=1

command -v clang-tidy >/dev/null || die "clang-tidy is not here: apt-get install clang-tidy"
cmake --preset release -DFUSEDMLP_CUDA=OFF -B build/lint >/dev/null
mapfile -t sources < <(git ls-files -co --exclude-standard -- 'src/*.cpp' ':!src/cuda')
say "clang-tidy: ${#sources[@]} files"
printf '%s\0' "${sources[@]}" | xargs -0 -P "$JOBS" -n 1 clang-tidy -p build/lint --quiet || failed=1
exit $failed
