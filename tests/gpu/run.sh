#!/usr/bin/env bash
# Runs a stage of the GPU bundle; see scripts/gpu_bundle.sh, which makes it. Needs a CUDA GPU, xz or python3 to unpack
# the programs at first use, and for the stages python and benchmark a python3 with torch >= 2.11. Results go to $OUT
# (default: out beside this file), a few files.
#   run.sh tests        the library's numerics on the GPU, streams, graphs, green contexts, activations
#   run.sh soak         a million runs, every entry mixed over streams and graphs, each result compared
#   run.sh sanitizers   memcheck, racecheck, synccheck and initcheck on small shapes
#   run.sh python       the operators, CUDA graphs, fuse() and profile(), and the command line
#   run.sh benchmark    peers_gpu.py; PEERS_ARGS adds arguments
#   run.sh tiles        single products with every tile, beside the cost model
#   run.sh layers       32 MLPs in one CUDA graph, with programmatic dependent launch and without
#   run.sh seams        dispatch's choice beside every entry, from 1 to 4096 tokens; SEAMS_ARGS adds arguments
#   run.sh profile      ncu on the kernels of the main shapes: time, bandwidth, tensor cores, L2, registers
#   run.sh all          tests, soak, sanitizers, python, benchmark
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-$HERE/out}
mkdir -p "$OUT"
SHARDS=$(nproc)
failed=0

unpack() {
  local fresh
  fresh=$(mktemp -d "$HERE/unpack.XXXXXX") || return
  if command -v xz >/dev/null; then
    xz -dc "$HERE/bin.tar.xz" | tar -xC "$fresh"
  else
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$HERE/bin.tar.xz" "$fresh"
  fi
  mv -T "$fresh/bin" "$HERE/bin" 2>/dev/null # another stage may have been faster
  rm -rf "$fresh"
  [[ -x $HERE/bin/fusedmlp_gpu_tests ]]
}

report() { # NAME STATUS SECONDS
  local outcome=ok
  if (($2)); then
    outcome="FAILED ($2)"
    failed=1
  fi
  printf '%-24s %-12s %4d s\n' "$1" "$outcome" "$3"
}

stage_tests() {
  # These tests read files of the source tree.
  local started=$SECONDS rc=0 filter='-NoTokens*:Guard*:Forms/Guards*:Executors*:Memory*:Yardstick*'
  "$HERE/bin/fusedmlp_gpu_tests" --gtest_filter=-Prefill.ChoosesTilesAsMeasured:Narrow.IsChosenWhereItIsFaster:DecodePlans.AreChosenAsMeasured:ClusterPlans.AreChosenAsMeasured >"$OUT/gpu_tests.log" 2>&1 || rc=$?
  report gpu_tests "$rc" $((SECONDS - started))
  ((rc)) && grep -A 8 -m 5 Failure "$OUT/gpu_tests.log"

  started=$SECONDS rc=0
  local logs shard pids=()
  logs=$(mktemp -d)
  for ((shard = 0; shard < SHARDS; ++shard)); do
    FUSEDMLP_TEST_DEVICE=cuda GTEST_TOTAL_SHARDS=$SHARDS GTEST_SHARD_INDEX=$shard \
      "$HERE/bin/fusedmlp_numerics_tests" --gtest_filter="$filter" >"$logs/$shard" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || rc=$?; done
  cat "$logs"/* >"$OUT/numerics.log"
  rm -r "$logs"
  report numerics "$rc" $((SECONDS - started))
  ((rc)) && grep -A 8 -m 5 Failure "$OUT/numerics.log"
}

# FUSEDMLP_SOAK changes the number of runs. A hang is a failure: the time limit ends it.
stage_soak() {
  local started=$SECONDS rc=0
  FUSEDMLP_SOAK=${FUSEDMLP_SOAK:-1000000} timeout 300 "$HERE/bin/fusedmlp_gpu_tests" --gtest_filter='Soak.*' \
    >"$OUT/soak.log" 2>&1 || rc=$?
  report soak "$rc" $((SECONDS - started))
  grep -E ' runs, ' "$OUT/soak.log" || grep -A 8 -m 3 Failure "$OUT/soak.log"
}

stage_sanitizers() {
  if ! command -v compute-sanitizer >/dev/null; then
    printf '%-24s left out: no compute-sanitizer here\n' sanitizers
    return
  fi
  local tool started=$SECONDS pids=() tools=(memcheck racecheck synccheck initcheck)
  for tool in "${tools[@]}"; do
    local filter='Forms/Layouts*bf16*:Forms/Layouts*fp32_gated*:Forms/Exact.Integers/reglu_*'
    # It is slower by two orders of magnitude.
    [[ $tool == racecheck ]] && filter='Forms/NonFinite.ZeroTimes*/ge*:Forms/Exact.Integers/reglu_bf16'
    FUSEDMLP_TEST_DEVICE=cuda timeout 400 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$HERE/bin/fusedmlp_numerics_tests" --gtest_filter="$filter" >"$OUT/$tool.log" 2>&1 &
    pids+=($!)
  done
  # Every kernel of cuda.decode, cuda.cluster and cuda.sm90, and cuda.portable's splits; rings of cuda.narrow that wrap, with
  # tiles for every warpgroup, which the numerics have too few tokens for. Racecheck in parts, beside each other.
  for tool in memcheck racecheck synccheck initcheck; do
    local filter='Decode.EveryFormIsExact:*ClusterForms.*:Prefill.EveryTileAndSplitIsExact:Tiles.EverySplitIsExact:Tiles.EveryRingIsExact'
    local part parts=1
    [[ $tool == racecheck ]] && filter+=':NarrowSeams.WrappedRings' parts=6
    for ((part = 0; part < parts; ++part)); do
      GTEST_TOTAL_SHARDS=$parts GTEST_SHARD_INDEX=$part timeout 400 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$HERE/bin/fusedmlp_gpu_tests" --gtest_filter="$filter" >"$OUT/${tool}_gpu_tests_$part.log" 2>&1 &
      pids+=($!)
      tools+=("${tool}_gpu_tests_$part")
    done
  done
  trap 'kill "${pids[@]}" 2>/dev/null' EXIT # a stage that is cut leaves nothing behind that slows down the next one
  for i in "${!tools[@]}"; do
    local rc=0
    wait "${pids[$i]}" || rc=$?
    report "${tools[$i]}" "$rc" $((SECONDS - started))
  done
  trap - EXIT
}

prepare_python() {
  SITE=$(mktemp -d)
  trap 'rm -rf "$SITE"' EXIT
  python3 -m zipfile -e "$HERE"/fusedmlp-*.whl "$SITE"
  export PYTHONPATH=$SITE:$HERE/site
  FUSEDMLP_CLI=$(find "$SITE" -path '*/scripts/fusedmlp')
  chmod +x "$FUSEDMLP_CLI" # zipfile forgets it
  export FUSEDMLP_CLI
}

stage_python() {
  local started=$SECONDS rc=0
  prepare_python
  python3 -m pytest -q -p no:cacheprovider "$HERE/python" >"$OUT/python.log" 2>&1 || rc=$?
  report python "$rc" $((SECONDS - started))
  tail -n $((rc ? 40 : 3)) "$OUT/python.log"
}

stage_benchmark() {
  local started=$SECONDS rc=0
  prepare_python
  # shellcheck disable=SC2086
  timeout 460 python3 "$HERE/peers_gpu.py" --out "$OUT/peers_gpu.json" ${PEERS_ARGS:-} || rc=$?
  report benchmark "$rc" $((SECONDS - started))
}

stage_tiles() {
  "$HERE/bin/fusedmlp_bench_gpu_tiles" >"$OUT/tiles.txt" && "$HERE/bin/fusedmlp_bench_gpu_kernels" >"$OUT/kernels.jsonl"
  report tiles $? $SECONDS
}

stage_layers() {
  local started=$SECONDS rc=0
  timeout 300 "$HERE/bin/fusedmlp_bench_gpu_layers" --json "$OUT/layers.json" || rc=$?
  report layers "$rc" $((SECONDS - started))
}

# Kernels one after another, caches emptied before each: what overlaps and what stays in L2 between launches is not seen.
stage_profile() {
  if ! command -v ncu >/dev/null; then
    printf '%-24s left out: no ncu here\n' profile
    return
  fi
  local started=$SECONDS rc=0 section sections=()
  for section in SpeedOfLight MemoryWorkloadAnalysis ComputeWorkloadAnalysis LaunchStats; do
    sections+=(--section "$section")
  done
  timeout 300 ncu "${sections[@]}" --metrics dram__bytes_read.sum,dram__bytes_write.sum --page raw --csv \
    --log-file "$OUT/ncu.csv" "$HERE/bin/fusedmlp_bench_gpu_kernels" --profile \
    geglu_tanh:768x3072,bf16 1 geglu_tanh:768x3072,bf16 64 geglu_tanh:768x3072,bf16 256 \
    geglu_tanh:768x3072,bf16 1024 geglu_tanh:768x3072,bf16 8192 gelu:4096x4096+bias,bf16 64 gelu:4096x4096+bias,bf16 1024 \
    gelu:1024x4096+bias,bf16 8192 swiglu:4096x14336,bf16 1 swiglu:4096x14336,bf16 64 swiglu:4096x14336,bf16 256 \
    gelu:128x512+bias,bf16 65536 gelu:256x1024+bias,bf16 65536 >"$OUT/ncu.txt" 2>&1 || rc=$?
  report profile "$rc" $((SECONDS - started))
  ((rc)) && tail -n 3 "$OUT/ncu.csv" "$OUT/ncu.txt"
}

stage_seams() {
  local started=$SECONDS rc=0
  # shellcheck disable=SC2086
  timeout 500 "$HERE/bin/fusedmlp_bench_gpu_kernels" --seams "$OUT/seams.json" ${SEAMS_ARGS:-} | tee "$OUT/seams.txt" ||
    rc=$?
  report seams "$rc" $((SECONDS - started))
}

if [[ ${1:-} == @(tests|soak|sanitizers|python|benchmark|tiles|layers|seams|profile|all) ]]; then
  if [[ ! -d $HERE/bin ]] && ! unpack; then
    echo "run.sh: cannot unpack $HERE/bin.tar.xz" >&2
    exit 2
  fi
  # Without a GPU every test is skipped, which must not read as a success.
  if "$HERE/bin/fusedmlp_gpu_tests" --gtest_filter='StatelessRun.*' | grep -q SKIPPED; then
    echo "run.sh: fusedmlp sees no GPU here (CUDA 13 needs driver R580 or newer)" >&2
    exit 2
  fi
fi

case ${1:-} in
  tests | soak | sanitizers | python | benchmark | tiles | layers | seams | profile) "stage_$1" ;;
  all) for stage in tests soak sanitizers python benchmark; do "stage_$stage"; done ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
exit $failed
