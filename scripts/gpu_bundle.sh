#!/usr/bin/env bash
# Makes ./gpu-bundle: everything that proves and times the GPU kernels, to be taken to a machine with a GPU. There:
#   gpu-bundle/run.sh STAGE      tests | soak | sanitizers | python | benchmark | tiles | layers | seams | profile | all
set -euo pipefail
source "$(dirname "$0")/common.sh"

BUNDLE=$ROOT/gpu-bundle
BUILD=$ROOT/build/gpu-bundle
MOST_MIB=60

"$ROOT/scripts/setup.sh"
wheels=("$ROOT"/build/dist/fusedmlp-*.whl)
[[ -f ${wheels[0]} ]] || die "no wheel in build/dist: remove .venv/.stamps/wheel and run again"

say "programs: building ($JOBS jobs)"
cmake --preset cuda -B "$BUILD" "-DPython3_EXECUTABLE=$VENV/bin/python" -DFUSEDMLP_BUILD_BENCHMARKS=ON \
  "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc" >/dev/null
programs=(gpu_tests numerics_tests bench_gpu_kernels bench_gpu_layers bench_gpu_tiles)
cmake --build "$BUILD" -j "$JOBS" --target "${programs[@]/#/fusedmlp_}" | grep -vE '^(\[|ninja)' || true

rm -rf "$BUNDLE"
mkdir -p "$BUNDLE/bin" "$BUNDLE/site"
for program in "${programs[@]}"; do
  strip -o "$BUNDLE/bin/fusedmlp_$program" "$(find "$BUILD" -type f -name "fusedmlp_$program")"
done
# Each program has all kernels inside, the same ones: one archive that looks back far enough is a fifth of them.
"$VENV/bin/python" - "$BUNDLE" <<'END'
import lzma, shutil, sys, tarfile
bundle = sys.argv[1]
filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
with lzma.open(f"{bundle}/bin.tar.xz", "wb", filters=filters) as file, tarfile.open(fileobj=file, mode="w|") as tar:
    tar.add(f"{bundle}/bin", "bin")
shutil.rmtree(f"{bundle}/bin")
END
cp "${wheels[@]}" benchmarks/peers_gpu.py "$BUNDLE"
cp tests/gpu/run.sh "$BUNDLE/run.sh"
cp -r tests/gpu/python "$BUNDLE/python"
cp tests/cli/test_cli_cuda.py "$BUNDLE/python"
# pytest is plain Python; the machine there may have none and no way to fetch it.
for package in pytest _pytest pluggy iniconfig packaging; do
  cp -r "$VENV"/lib/python3*/site-packages/"$package" "$BUNDLE/site"
done
# A peer of the benchmark, which is Python and Triton.
"$VENV/bin/python" -m pip install -qq --no-deps --no-compile --target "$BUNDLE/site" liger-kernel==0.8.5
find "$BUNDLE" -name __pycache__ -prune -exec rm -r {} +

size=$(du -sm "$BUNDLE" | cut -f1)
((size < MOST_MIB)) || die "gpu-bundle is $size MiB, at most $MOST_MIB"
say "gpu-bundle: $size MiB"
