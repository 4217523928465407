"""`fusedmlp ... --device cuda` as a process: on a GPU where there is one, elsewhere what it says instead.

The binary's path comes in FUSEDMLP_CLI. Stands alone: the GPU bundle carries this file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

SPEC = "swiglu:256x512,bf16"
TIMEOUT_S = 300


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command; FUSEDMLP_* variables are those of `environment` only, and no tuned table."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FUSEDMLP_")}
    return subprocess.run(
        [os.environ["FUSEDMLP_CLI"], *arguments],
        env={**clean, "FUSEDMLP_TUNED": "off", **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def succeeds(*arguments: str, **environment: str) -> str:
    done = run(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def report(*arguments: str, **environment: str) -> dict[str, Any]:
    return json.loads(succeeds(*arguments, "--json", "-", **environment))


def fails(*arguments: str, **environment: str) -> str:
    """The one line on stderr of a run that must exit 2 with nothing on stdout."""
    done = run(*arguments, **environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("fusedmlp: ") and done.stderr.count("\n") == 1
    return done.stderr


def gpu_kernels() -> list[str]:
    devices = report("info")["devices"]
    return next(([k["name"] for k in d["kernels"]] for d in devices if d["device"] == "cuda:0"), [])


@pytest.fixture(name="kernels")
def kernels_of_gpu() -> list[str]:
    names = gpu_kernels()
    if not names:
        pytest.skip("no GPU")
    return names


@pytest.mark.parametrize("command", ["bench", "verify", "tune", "explain"])
def test_without_a_gpu_every_command_says_which_option_and_why(command: str) -> None:
    if gpu_kernels():
        pytest.skip("a GPU is here")
    line = fails(command, SPEC, "--device", "cuda")
    assert re.match(
        r"fusedmlp: --device: cuda:0 is not (there: this machine has no NVIDIA driver"
        r"|there: the NVIDIA driver serves CUDA .* needs 13.0 .*"
        r"|there: this process sees 0 GPUs"
        r"|usable: this fusedmlp was built without CUDA)$",
        line,
    ), line


@pytest.mark.parametrize("command", ["bench", "verify", "tune", "explain"])
def test_devices_that_there_are_none_of(command: str) -> None:
    assert "--device: cuda:99 is not " in fails(command, SPEC, "--device", "cuda:99")
    line = fails(command, SPEC, "--device", "tpu")
    assert '--device: got "tpu", accepted: cpu, cuda, cuda:N' in line


def test_the_cpu_is_used_whatever_is_wrong_with_gpus() -> None:
    fast = ("--tokens", "1", "--repeats", "1", "--min-time", "0")
    assert report("bench", SPEC, *fast)["device"] == "cpu"
    assert report("bench", SPEC, *fast, "--device", "cpu")["device"] == "cpu"
    assert report("verify", SPEC, "--tokens", "1", "--device", "cpu", CUDA_VISIBLE_DEVICES="")["failed"] == 0


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("bench", "--threads", "2"), "--threads"),
        (("bench", "--no-pack"), "--no-pack"),
        (("verify", "--isa", "avx2"), "--isa"),
        (("verify", "--threads", "2"), "--threads"),
        (("tune", "--no-pack", "--dry-run"), "--no-pack"),
    ],
)
def test_what_only_the_cpu_takes(kernels: list[str], arguments: tuple[str, ...], option: str) -> None:
    line = fails(arguments[0], SPEC, *arguments[1:], "--device", "cuda")
    assert line.startswith(f"fusedmlp: {option}: accepted with --device cpu only, got cuda:0"), line


def test_kernels_are_the_gpus(kernels: list[str]) -> None:
    for command in ("bench", "verify"):
        line = fails(command, SPEC, "--device", "cuda", "--kernel", "cpu.rows")
        assert line == f'fusedmlp: --kernel: got "cpu.rows", accepted: {", ".join(kernels)}\n'


def test_bench(kernels: list[str]) -> None:
    # The last is too large for layer by layer; 33 columns of bf16 are no multiple of 16 bytes.
    specs = (SPEC, "gelu:768x3072+bias,fp16", "gelu:33x65,bf16", "geglu:4096x14336,bf16")
    out = report(
        "bench", *specs, "--device", "cuda", "--tokens", "1,16,100", "--repeats", "5", "--min-time", "0"
    )
    assert (out["device"], out["caches"], out["packed"], out["threads"]) == ("cuda:0", "cold", False, 1)
    assert re.fullmatch(r"sm_\d+", out["isa"])
    assert [(r["spec"], r["tokens"]) for r in out["results"]] == [(s, t) for s in specs for t in (1, 16, 100)]
    for result in out["results"]:
        entries = result["entries"]
        assert [entry["name"] for entry in entries] == kernels
        assert sum(entry["chosen"] for entry in entries) == 1
        assert ("weights_read_us" in result) == (result["tokens"] == 1)
        timed = [entry for entry in entries if "skipped" not in entry]
        assert any(entry["chosen"] for entry in timed)
        for entry in timed:
            assert 0 < entry["best_us"] <= entry["median_us"] and entry["samples"] >= 3
            # Nothing is faster than the memory: the model's bandwidth is good to some per cent.
            assert entry["share_of_limit"] == pytest.approx(result["limit_us"] / entry["median_us"])
            assert entry["share_of_limit"] < 1.1
        if result["spec"].startswith("gelu:33x65") and result["tokens"] <= 16:
            assert any("multiples of 16 bytes" in entry.get("skipped", "") for entry in entries)
    text = succeeds("bench", SPEC, "--device", "cuda", "--tokens", "1", "--repeats", "3", "--min-time", "0")
    assert "medians of interleaved CUDA graphs; cold" in text and "x of ref." in text


def test_verify(kernels: list[str]) -> None:
    out = report("verify", SPEC, "gelu:40x72->24+bias,fp16", "reglu:33x65,fp32", "--device", "cuda")
    assert out["failed"] == 0 and out["device"] == "cuda:0"
    ran = {row["kernel"] for row in out["results"] if row["spec"] == SPEC}
    explained = report("explain", SPEC, "--tokens", "1,5,33", "--device", "cuda")["results"]
    assert ran == {e["name"] for r in explained for e in r["entries"] if e["predicted_us"] is not None}
    assert len(ran) >= 2 and kernels[-1] in ran
    assert {row["kernel"] for row in out["results"]} <= set(kernels)
    for row in out["results"]:
        assert row["passed"] and row["exact_errors"] == 0 and row["worst_ratio"] <= 1
        assert row["weights"] == "as given" and row["isa"] == out["isa"]
        assert row["error"] > 0 or row["spec"].startswith("reglu")  # computed, not copied
    one = report("verify", SPEC, "--device", "cuda", "--kernel", kernels[-1])
    assert {row["kernel"] for row in one["results"]} == {kernels[-1]}


def test_tune_is_what_dispatch_takes(kernels: list[str], tmp_path: Path) -> None:
    table = tmp_path / "tuned.json"
    arguments = (SPEC, "--tokens", "1,16", "--device", "cuda")
    out = report("tune", *arguments, "--repeats", "5", "--min-time", "0", FUSEDMLP_TUNED=str(table))
    fastest = {result["tokens"]: result["fastest"] for result in out["results"]}
    assert set(fastest) == {1, 16} and set(fastest.values()) <= set(kernels)
    explained = report("explain", *arguments, FUSEDMLP_TUNED=str(table))
    for result in explained["results"]:
        (chosen,) = [entry for entry in result["entries"] if entry["chosen"]]
        assert chosen["name"] == fastest[result["tokens"]]
        assert chosen["measured"].startswith("measured ")
