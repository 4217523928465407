# make run     set up, then find, fuse, verify and time a real model's MLPs; results in out/
# make test    everything that is tested, with a time budget for each stage
# make setup   system packages, .venv and the wheel; does nothing when all is there
.PHONY: all run test setup build format lint clean

all: run

setup:
	@scripts/setup.sh

run: setup
	@.venv/bin/python -m fusedmlp profile --model minilm --out out/minilm
	@.venv/bin/python -m fusedmlp profile --model hf-geglu --out out/hf-geglu

test: setup
	@scripts/test.sh

build:
	cmake --preset release
	cmake --build --preset release

format:
	@scripts/lint.sh --fix

lint:
	@scripts/lint.sh

clean:
	rm -rf build out dist .venv python/fusedmlp/lib
