# make run     set up, then find, fuse, verify and time a real model's MLPs; results in out/
# make test    everything that is tested, with a time budget for each stage
# make gpu-bundle   ./gpu-bundle: tests, sanitizer runs and benchmarks for a machine with a GPU (run.sh there)
# make setup   system packages, .venv and the wheel; does nothing when all is there
.PHONY: all run test gpu-bundle setup build format lint clean

all: run

setup:
	@scripts/setup.sh

run: setup
	@.venv/bin/python -m fusedmlp profile --model minilm --out out/minilm
	@.venv/bin/python -m fusedmlp profile --model hf-geglu --out out/hf-geglu

test: setup
	@scripts/test.sh

gpu-bundle: setup
	@scripts/gpu_bundle.sh

build:
	cmake --preset release
	cmake --build --preset release

format:
	@scripts/lint.sh --fix

lint:
	@scripts/lint.sh

clean:
	rm -rf build out dist .venv python/fusedmlp/lib
