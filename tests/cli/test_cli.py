"""The command `fusedmlp` as a process: output, exit codes, JSON, files and environment.

The binary's path comes in FUSEDMLP_CLI.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

COMMANDS = ("info", "explain", "explain-kernel", "bench", "verify", "tune", "analyze", "compare")
WITH_PROVENANCE = COMMANDS[:6]  # their JSON says how it was made
TRACE = Path(__file__).resolve().parents[1] / "data" / "traces" / "geglu_768_3072_eager_shapes.json.gz"
SPEC = "gelu:33x65+bias"
TIMEOUT_S = 120


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with `arguments`; FUSEDMLP_* variables are those of `environment` only, and no tuned table."""
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
    """stdout of a run that must exit 0 without a word on stderr."""
    done = run(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def fails(arguments: Sequence[str], *words: str, **environment: str) -> str:
    """stderr of a run that must exit 2 with nothing on stdout and one line, holding `words`, on stderr."""
    done = run(*arguments, **environment)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("fusedmlp: ") and done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr


def has_gpu() -> bool:
    devices = json.loads(succeeds("info", "--json", "-"))["devices"]
    return any(device["device"] == "cuda:0" for device in devices)


def fast(command: str) -> list[str]:
    """Arguments that make a command quick."""
    return {
        "info": ["info"],
        "explain": ["explain", SPEC, "--tokens", "1,7"],
        "explain-kernel": ["explain-kernel", "attn_fwd"],
        "bench": ["bench", SPEC, "--tokens", "1,7", "--repeats", "3", "--min-time", "0"],
        "verify": ["verify", SPEC, "--tokens", "1,7"],
        "tune": ["tune", SPEC, "--tokens", "1,7", "--repeats", "3", "--min-time", "0", "--dry-run"],
        "analyze": ["analyze", str(TRACE)],
        "compare": ["compare", str(TRACE), str(TRACE)],
    }[command]


def kernels() -> list[str]:
    """Names of the CPU's registry entries."""
    return [entry["name"] for entry in json.loads(succeeds("info", "--json", "-"))["devices"][0]["kernels"]]


def kernels_for(spec: str) -> list[str]:
    """Those of them that can run it at a few tokens."""
    report = json.loads(succeeds("explain", spec, "--tokens", "3", "--json", "-"))
    return [entry["name"] for entry in report["results"][0]["entries"] if entry["predicted_us"] is not None]


def best_isa() -> str:
    return json.loads(succeeds("info", "--json", "-"))["devices"][0]["isa_available"][-1]


# ---- help and version -------------------------------------------------------------------------------------


def test_version() -> None:
    assert re.fullmatch(r"fusedmlp \d+\.\d+\.\d+\n", succeeds("--version"))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples_that_work(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("trace", "eager", "compiled", "fused", "eager.trace", "fused.trace"):
        for ending in (".json", ".json.gz"):  # told by content
            shutil.copy(TRACE, tmp_path / (name + ending))
    text = succeeds(*([command] if command else []), "--help")
    examples = [line.strip() for line in text.splitlines() if line.startswith("  fusedmlp ")]
    assert len(examples) >= 2, text
    for example in examples:
        if "--device cuda" in example and not has_gpu():
            continue
        out = succeeds(*shlex.split(example)[1:])
        if example.endswith("--json -"):
            json.loads(out)


def test_help_names_every_command() -> None:
    text = succeeds("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, re.MULTILINE), text


# ---- wrong input ------------------------------------------------------------------------------------------


def test_no_command() -> None:
    fails([], "info", "explain", "bench", "verify")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nonsense"], ["nonsense"]),
        (["info", "--nonsense"], ["--nonsense"]),
        (["info", "extra"], ["extra"]),
        (["explain"], ["SPEC"]),
        (["bench"], ["SPEC"]),
        (["verify"], ["SPEC"]),
        (["explain", SPEC, "--device", "tpu"], ["tpu", "cpu", "cuda"]),
        (["explain", SPEC, "--json"], ["--json"]),
        (["bench", SPEC, "--threads", "0"], ["--threads"]),
        (["bench", SPEC, "--threads", "two"], ["--threads"]),
        (["bench", SPEC, "--repeats", "0"], ["--repeats"]),
        (["bench", SPEC, "--min-time", "-1"], ["--min-time"]),
        (["bench", SPEC, "--kernel", "cpu.nothing"], ["--kernel", "cpu.nothing", "reference"]),
        (["verify", SPEC, "--kernel", "cpu.nothing"], ["--kernel", "cpu.nothing", "reference"]),
        (["verify", SPEC, "--isa", "sse9"], ["--isa", "sse9", "generic"]),
        (["verify", SPEC, "--seed", "x"], ["--seed"]),
    ],
)
def test_wrong_options(arguments: list[str], words: list[str]) -> None:
    fails(arguments, *words)


@pytest.mark.parametrize("command", ["explain", "bench", "verify"])
@pytest.mark.parametrize(
    "spec",
    [
        "",
        "gelu",
        "gelu:",
        "gelu:0x5",
        "gelu:5x",
        "nope:5x5",
        "gelu:5x5,fp64",
        "gelu:5x5+bias_gate",
        "gelu:5x5\n",
    ],
)
def test_wrong_spec(command: str, spec: str) -> None:
    fails([command, spec], "spec")


@pytest.mark.parametrize("command", ["explain", "bench", "verify"])
@pytest.mark.parametrize("tokens", ["", "x", "1,", ",1", "1.5", "-3", "1 2", "99999999999", "1,two"])
def test_wrong_tokens(command: str, tokens: str) -> None:
    fails([command, SPEC, f"--tokens={tokens}" if tokens else "--tokens=,"], "--tokens")


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_zero_tokens_have_nothing_to_measure(command: str) -> None:
    fails([command, SPEC, "--tokens", "0"], "--tokens", "from 1")


@pytest.mark.parametrize("command", ["explain", "bench", "verify"])
@pytest.mark.parametrize("dtype", ["fp64", "fp32,", "bf16,int8"])
def test_wrong_dtype(command: str, dtype: str) -> None:
    fails([command, SPEC, "--dtype", dtype], "--dtype", "fp32")


# ---- environment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WITH_PROVENANCE)
def test_bad_isa_variable(command: str) -> None:
    fails(fast(command), "FUSEDMLP_ISA", "sse9", "avx2", FUSEDMLP_ISA="sse9")


@pytest.mark.parametrize("command", ["explain", "bench", "verify"])
def test_bad_kernel_variable(command: str) -> None:
    fails(fast(command), "FUSEDMLP_KERNEL", "cpu.nothing", "reference", FUSEDMLP_KERNEL="cpu.nothing")


def test_forced_isa_is_used() -> None:
    device = json.loads(succeeds("info", "--json", "-", FUSEDMLP_ISA="generic"))["devices"][0]
    assert device["isa"] == "generic"
    assert device["isa_available"][-1] == best_isa(), "what is available does not depend on the wish"


def test_forced_kernel_is_chosen() -> None:
    for name in kernels_for(SPEC):
        report = json.loads(succeeds("explain", SPEC, "--tokens", "3", "--json", "-", FUSEDMLP_KERNEL=name))
        chosen = [entry["name"] for entry in report["results"][0]["entries"] if entry["chosen"]]
        assert chosen == [name]


# ---- output -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WITH_PROVENANCE)
def test_json_to_stdout_is_json_only(command: str) -> None:
    report = json.loads(succeeds(*fast(command), "--json", "-"))
    assert report["command"].startswith(f"fusedmlp {command}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["date"])
    assert {"version", "device", "device_name", "isa", "cores"} <= report.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_json_file_beside_the_table(command: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    text = succeeds(*fast(command), "--json", str(file))
    assert text, "the table is printed too"
    assert isinstance(json.loads(file.read_text()), dict)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"], "no temporary file stays"


@pytest.mark.parametrize("command", COMMANDS)
def test_unwritable_file_fails_before_any_work(command: str, tmp_path: Path) -> None:
    fails([*fast(command), "--json", str(tmp_path / "absent" / "result.json")], "--json", "No such file")
    fails([*fast(command), "--json", str(tmp_path)], "--json", "directory")


def test_a_failed_run_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    fails([*fast("bench"), "--json", str(file)], "FUSEDMLP_KERNEL", FUSEDMLP_KERNEL="cpu.nothing")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_json_through_a_link_and_into_a_device(tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(target)
    succeeds("info", "--json", str(link))
    assert link.is_symlink() and json.loads(target.read_text())["version"]
    succeeds("info", "--json", os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode), "a device is written to, not replaced"


def test_full_stdout_is_noticed() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [os.environ["FUSEDMLP_CLI"], "info"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1


def test_info() -> None:
    text = succeeds("info")
    for word in (
        "cpu:",
        "instruction set",
        "caches",
        "bf16 GFLOP/s",
        "memory read GB/s",
        "FUSEDMLP_ISA",
        "reference",
    ):
        assert word in text
    report = json.loads(succeeds("info", "--json", "-"))
    device = report["devices"][0]
    assert device["device"] == "cpu" and device["kernels"][-1]["name"] == "reference"
    assert device["isa"] in device["isa_available"]
    assert all(rate["per_core"] > 0 for rate in device["limits"].values())
    assert "measured" not in device
    assert report["environment"]["FUSEDMLP_ISA"] is None


def test_info_measures() -> None:
    device = json.loads(succeeds("info", "--measure", "--json", "-"))["devices"][0]
    measured = device["measured"]
    keys = ["flops_fp32", "flops_bf16", "flops_fp16", "l2_bandwidth", "l3_bandwidth", "memory_bandwidth"]
    assert ("tile_flops_bf16" in measured) == (device["isa"] == "amx")
    assert set(device["limits"]) == {key for key in measured if isinstance(measured[key], dict)} >= set(keys)
    if device["isa"] == "amx":
        keys.append("tile_flops_bf16")
    for key in keys:
        for threads in ("one_thread", "all_threads"):
            assert 1e8 < measured[key][threads] < 1e15, key


def test_explain() -> None:
    report = json.loads(
        succeeds(
            "explain", SPEC, "swiglu:64x128", "--tokens", "0,1,64", "--dtype", "fp32,bf16", "--json", "-"
        )
    )
    cases = [(result["spec"], result["tokens"]) for result in report["results"]]
    assert cases == [
        (spec, tokens)
        for spec in (SPEC, f"{SPEC},bf16", "swiglu:64x128", "swiglu:64x128,bf16")
        for tokens in (0, 1, 64)
    ]
    for result in report["results"]:
        assert sum(entry["chosen"] for entry in result["entries"]) == 1
        assert result["entries"][-1]["name"] == "reference"
        assert all(entry["reason"] for entry in result["entries"])


def test_bench() -> None:
    report = json.loads(succeeds(*fast("bench"), "--dtype", "fp32,fp16", "--threads", "2", "--json", "-"))
    assert report["threads"] == 2 and report["caches"] == "warm"
    assert [(result["spec"], result["tokens"]) for result in report["results"]] == [
        (spec, tokens) for spec in (SPEC, f"{SPEC},fp16") for tokens in (1, 7)
    ]
    for result in report["results"]:
        assert [entry["name"] for entry in result["entries"]] == kernels()
        assert result["limit_us"] > 0
        for entry in result["entries"]:
            assert ("skipped" in entry) == (entry["name"] not in kernels_for(result["spec"]))
            if "skipped" in entry:
                continue
            assert 0 < entry["best_us"] <= entry["median_us"]
            assert entry["samples"] >= 3
            assert entry["share_of_limit"] == pytest.approx(result["limit_us"] / entry["median_us"])
            assert entry["gflops"] == pytest.approx(result["flops"] / entry["median_us"] * 1e-3)
            if result["tokens"] == 1:
                assert entry["share_of_weights_read"] == pytest.approx(
                    result["weights_read_us"] / entry["median_us"]
                )
        assert ("weights_read_us" in result) == (result["tokens"] == 1)
        assert result["entries"][-1]["speedup_over_reference"] == pytest.approx(1)


def test_bench_cold_without_packing() -> None:
    report = json.loads(succeeds(*fast("bench"), "--cold", "--no-pack", "--json", "-"))
    assert report["caches"] == "cold" and report["packed"] is False
    entries = [entry for result in report["results"] for entry in result["entries"]]
    assert all("skipped" in entry or entry["median_us"] > 0 for entry in entries)
    assert any("median_us" in entry for entry in entries)
    assert not any("weights_read_us" in result for result in report["results"])


def test_bench_shows_how_fast_one_token_reads_the_weights() -> None:
    arguments = ("gelu:128x512", "--repeats", "3", "--min-time", "0")
    assert "reading the weights alone" in succeeds("bench", *arguments, "--tokens", "1")
    assert "reading the weights alone" not in succeeds("bench", *arguments, "--tokens", "2")


def test_bench_of_chosen_kernels() -> None:
    for name in kernels_for(SPEC):
        report = json.loads(succeeds(*fast("bench"), "--kernel", name, "--json", "-"))
        assert [entry["name"] for entry in report["results"][0]["entries"]] == [name]


def test_bench_says_what_it_leaves_out() -> None:
    arguments = [
        "bench",
        "gelu:768x3072",
        "--tokens",
        "1024",
        "--repeats",
        "1",
        "--min-time",
        "0",
        "--json",
        "-",
    ]
    entries = json.loads(succeeds(*arguments))["results"][0]["entries"]
    assert "--all" in entries[-1]["skipped"] and "median_us" not in entries[-1]
    assert any("median_us" in entry for entry in entries[:-1])


def test_verify() -> None:
    report = json.loads(
        succeeds(
            "verify",
            SPEC,
            "geglu:64x96,gate=last",
            "--tokens",
            "1,9",
            "--dtype",
            "fp32,bf16,fp16",
            "--json",
            "-",
        )
    )
    assert report["failed"] == 0 and report["results"]
    assert {row["kernel"] for row in report["results"]} == set(kernels_for(SPEC))
    assert {row["isa"] for row in report["results"]} >= {"generic", best_isa()}
    for row in report["results"]:
        assert row["passed"] and row["exact_errors"] == 0 and row["worst_ratio"] <= 1
        assert row["error_limit"] is None or row["error"] <= row["error_limit"]
    text = succeeds(*fast("verify"))
    assert "FAIL" not in text and re.search(r"^\d+ of \d+ passed$", text, re.MULTILINE)


def test_verify_of_one_isa_and_kernel() -> None:
    report = json.loads(succeeds(*fast("verify"), "--isa", "generic", "--kernel", "reference", "--json", "-"))
    assert {(row["isa"], row["kernel"]) for row in report["results"]} == {("generic", "reference")}


def test_verify_seed_changes_the_data() -> None:
    def errors(seed: int) -> list[float]:
        report = json.loads(succeeds(*fast("verify"), "--seed", str(seed), "--json", "-"))
        return [row["error"] for row in report["results"]]

    assert errors(1) == errors(1)
    assert errors(1) != errors(2)
