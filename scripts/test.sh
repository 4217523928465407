#!/usr/bin/env bash
# Every test, in stages. Each has a time budget, printed and enforced; the first failure ends the run.
#   scripts/test.sh              all stages
#   scripts/test.sh python tsan  these stages only
# FUSEDMLP_BUDGET_SCALE=3 gives a busy or slower machine three times as long.
set -euo pipefail
source "$(dirname "$0")/common.sh"

# Name and budget in seconds on two cores, in the order they run; together below 40 minutes.
STAGES=(build:600 ctest:120 install:150 python:400 asan-ubsan:540 tsan:500 wheel:90)

LOGS=$ROOT/build/test-logs
SUMMARY=()
passed=0
failed=0

stage_build() {
  cmake --preset release "-DPython3_EXECUTABLE=$VENV/bin/python" &&
    cmake --build --preset release -j "$JOBS"
}

stage_ctest() { ctest --preset release -j "$JOBS" -LE install; }

stage_install() { ctest --preset release -L install; }

stage_python() { "$VENV/bin/python" -m pytest -q tests/python; }

sanitized() {
  cmake --preset "$1" "-DPython3_EXECUTABLE=$VENV/bin/python" &&
    cmake --build --preset "$1" -j "$JOBS" &&
    ctest --preset "$1" -j "$JOBS"
}

stage_asan-ubsan() { sanitized asan-ubsan; }

stage_tsan() { sanitized tsan; }

stage_wheel() { tests/install/test_wheel.sh "$VENV" build/dist/fusedmlp-*.whl; }

# Adds what the stage's runner counted (ctest's and pytest's own last lines) to the totals.
count() {
  local counts
  counts=$(python3 - "$1" <<'PY'
import re, sys
text = open(sys.argv[1], errors="replace").read()
passed = failed = 0
for bad, total in re.findall(r"(\d+) tests? failed out of (\d+)", text):
    failed, passed = failed + int(bad), passed + int(total) - int(bad)
for line in re.findall(r"^.*\d+ (?:passed|failed|error).* in [\d.]+s.*$", text, re.MULTILINE):
    numbers = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error)", line)}
    passed += numbers.get("passed", 0)
    failed += numbers.get("failed", 0) + numbers.get("error", 0)
print(passed, failed)
PY
  )
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  STAGE_COUNTS=
  if [[ $counts != "0 0" ]]; then STAGE_COUNTS="${counts% *} passed, ${counts#* } failed"; fi
}

summary() {
  printf '%s\n' "${SUMMARY[@]}"
  printf 'make test: %d passed, %d failed, %s in %d s\n' "$passed" "$failed" "$1" "$SECONDS"
}

run_stage() {
  local name=$1 budget=$(($2 * ${FUSEDMLP_BUDGET_SCALE:-1})) log=$LOGS/$1.log started=$SECONDS rc=0 outcome
  say "stage $name: budget $budget s"
  # A shell of its own, so that the budget ends everything in it.
  timeout --kill-after=10 "$budget" "$ROOT/scripts/test.sh" --stage "$name" 2>&1 | tee "$log" | show "$name" || rc=$?
  local taken=$((SECONDS - started))
  count "$log"
  case $rc in
    0) outcome=ok ;;
    124 | 137) outcome="over its budget of $budget s" ;;
    *) outcome="failed" ;;
  esac
  SUMMARY+=("$(printf '%-12s %5d s of %4d s   %-28s %s' "$name" "$taken" "$budget" "$STAGE_COUNTS" "$outcome")")
  say "stage $name: $outcome in $taken s of $budget s"
  if ((rc)); then
    if [[ $name == @(build|asan-ubsan|tsan) ]]; then tail -40 "$log"; fi
    ((failed)) || failed=1
    summary "stage $name $outcome"
    exit 1
  fi
}

# A passing ctest is a line a test: only what matters is shown, the rest is in the log.
show() {
  if [[ $1 == python || $1 == wheel ]]; then
    cat
  else
    grep -vE --line-buffered '^( *Start +[0-9]+:| *[0-9]+/[0-9]+ Test .* Passed|-- |\[[0-9]+/[0-9]+\]|$)' || true
  fi
}

if [[ ${1:-} == --stage ]]; then
  "stage_$2"
  exit
fi

mkdir -p "$LOGS"
wanted=" ${*:-$(printf '%s ' "${STAGES[@]%:*}")} "
for name in $wanted; do
  [[ " ${STAGES[*]%:*} " == *" $name "* ]] || die "no stage '$name'; there are: ${STAGES[*]%:*}"
done
for stage in "${STAGES[@]}"; do
  if [[ $wanted == *" ${stage%:*} "* ]]; then run_stage "${stage%:*}" "${stage#*:}"; fi
done
summary "all stages ok"
