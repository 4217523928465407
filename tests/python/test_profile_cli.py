"""python -m fusedmlp profile, and benchmarks/peers_cpu.py and peers_gpu.py, as processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusedmlp.profile_cli import main

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    "variant",
    "ops",
    "read*",
    "written*",
    "mean",
    "median",
    "tokens/s",
    "GFLOP/s",
    "speed-up",
    "of limit",
)


def run(*arguments, cwd, env=None):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )


def profile(*arguments, cwd, env=None):
    return run("-m", "fusedmlp", "profile", *arguments, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    options = ("--model", "mlp:geglu:32x64+bias_up,bf16", "--tokens", "1,5", "--repeats", 2, "--threads", 1)
    return folder, profile(*options, "--out", folder / "out", cwd=folder)


def test_table_and_files(tiny):
    folder, process = tiny
    assert process.returncode == 0, process.stderr
    header = next(line for line in process.stdout.splitlines() if line.startswith("variant"))
    assert [header.find(column) for column in (*COLUMNS, "extra mem", "error fp64", "eager's")] == sorted(
        header.find(column) for column in (*COLUMNS, "extra mem", "error fp64", "eager's")
    )
    assert -1 not in [header.find(column) for column in COLUMNS]
    rows = [
        line.split()[0]
        for line in process.stdout.splitlines()
        if line.startswith(("eager ", "compiled ", "fused "))
    ]
    assert rows == ["eager", "compiled", "fused"] * 2
    assert "modelled" in process.stdout and "fusing" in process.stdout
    assert "timing the MLPs alone" in process.stderr and "\r" not in process.stderr
    names = {"eager.trace.json", "compiled.trace.json", "fused.trace.json", "report.html", "profile.json", "profile.txt"}
    assert {path.name for path in (folder / "out").iterdir()} == names
    assert (folder / "out" / "profile.txt").read_text() in process.stdout


def test_json(tiny):
    folder, process = tiny
    result = json.loads((folder / "out" / "profile.json").read_text())
    assert result["environment"]["threads"] == 1 and result["environment"]["torch"]
    assert result["environment"]["command"].startswith("python -m fusedmlp profile --model mlp:geglu:32x64")
    assert [entry["tokens"] for entry in result["runs"]] == [1, 5]
    for entry in result["runs"]:
        assert entry["mlps"][0]["spec"] == "geglu:32x64+bias_up,bf16" and entry["limit_us"] > 0
        by_name = {row["variant"]: row for row in entry["rows"]}
        assert by_name["eager"]["mlp"]["ops"] == 5 and by_name["fused"]["mlp"]["ops"] == 1
        assert by_name["fused"]["mlp"]["repeats"] == 2
        assert by_name["compiled"]["status"] == "ok", by_name["compiled"]["reason"]
        assert entry["verdict"]


@pytest.mark.parametrize(
    "variant, op", [("eager", "aten::gelu"), ("compiled", "cpp_fused"), ("fused", "fusedmlp::")]
)
def test_traces(tiny, variant, op):
    folder, _ = tiny
    trace = json.loads((folder / "out" / f"{variant}.trace.json").read_text())
    complete = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    assert all({"name", "ts", "dur", "pid", "tid"} <= set(event) for event in complete)
    assert any(op in event["name"] for event in complete if event.get("cat") == "cpu_op")
    assert trace["traceName"] == f"{variant}.trace.json"


def test_json_on_stdout_leaves_the_table_to_stderr(tmp_path):
    options = ("--model", "mlp:relu:8x16", "--tokens", 2, "--repeats", 1, "--no-compile", "--json", "-")
    process = profile(*options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["runs"][0]["tokens"] == 2
    assert "error fp64" in process.stderr
    assert (tmp_path / "out" / "mlp-relu-8x16" / "profile.json").is_file()  # the default folder


def test_a_machine_without_a_compiler_still_gets_its_table(tmp_path):
    env = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    out = tmp_path / "out"
    out.mkdir()
    (out / "compiled.trace.json").write_text("of an earlier run")
    options = ("--model", "mlp:gelu:8x16", "--tokens", 2, "--repeats", 1, "--out", out)
    process = profile(*options, cwd=tmp_path, env=env)
    assert process.returncode == 0, process.stderr
    assert "compiled: torch.compile does not work here" in process.stdout and "compiler" in process.stdout
    assert not (out / "compiled.trace.json").exists() and (out / "fused.trace.json").exists()


FACTORY = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), torch.randn(3, 8)
def keywords():
    return make()[0], {"input": torch.randn(3, 8)}
def wrong_input():
    return make()[0], torch.randn(3, 7)
def nothing():
    return None
def raises():
    raise KeyError("gone")
"""


@pytest.fixture()
def factory(tmp_path):
    (tmp_path / "factory.py").write_text(FACTORY)
    return tmp_path


@pytest.mark.parametrize("function", ["make", "keywords"])
def test_factory(factory, function):
    options = (
        "--model",
        f"factory.py:{function}",
        "--repeats",
        1,
        "--no-compile",
        "--dtype",
        "bf16",
        "--out",
        "o",
    )
    process = profile(*options, cwd=factory)
    assert process.returncode == 0, process.stderr
    run = json.loads((factory / "o" / "profile.json").read_text())["runs"][0]
    assert run["mlps"][0]["spec"] == "relu:8x16+bias,bf16"
    assert run["agreement"]["fused_to_eager"] < 0.02


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ("--model", "bert"),
            "model: got 'bert', accepted are minilm, hf-geglu, mlp:SPEC, FACTORY.py:function",
        ),
        (("--model", "mlp:gelu:0x4"), "model: mlp:gelu:0x4: "),
        (("--model", "mlp:nope:4x4"), "nope"),
        (("--model", "missing.py:make"), "model: no file missing.py"),
        (("--model", "factory.py:other"), "model: factory.py has no function 'other'"),
        (("--model", "factory.py:nothing"), "must return (model, inputs)"),
        (("--model", "factory.py:raises"), "model: factory.py:raises failed: KeyError"),
        (("--model", "factory.py:wrong_input"), "model: factory.py:wrong_input does not run: RuntimeError"),
        (("--model", "factory.py:make", "--tokens", "4"), "tokens: factory.py:make makes its own input"),
        (("--tokens", "0"), "argument --tokens: got '0'"),
        (("--tokens", "1,x"), "argument --tokens: got '1,x'"),
        (("--threads", "0"), "argument --threads: got '0'"),
        (("--dtype", "fp8"), "argument --dtype: invalid choice: 'fp8'"),
        (("--device", "tpu"), "argument --device: invalid choice: 'tpu'"),
        pytest.param(
            ("--device", "cuda"),
            "--device: got cuda, but PyTorch sees no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (("--out", "factory.py", "--model", "mlp:relu:4x4"), "factory.py"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_input_exits_2_with_one_line(factory, options, message, monkeypatch, capsys):
    monkeypatch.chdir(factory)
    try:
        code = main(["profile", *options])
    except SystemExit as stopped:
        code = stopped.code
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0]
    assert output.out == ""


@pytest.mark.parametrize("options", [("--model", "factory.py:wrong_input"), ("--tokens", "0")])
def test_wrong_input_as_a_process(factory, options):
    process = profile(*options, cwd=factory)
    assert process.returncode == 2 and process.stdout == ""
    assert "Traceback" not in process.stderr and process.stderr.splitlines()[-1].startswith("error: ")


def test_help_shows_examples(tmp_path):
    process = profile("--help", cwd=tmp_path)
    assert process.returncode == 0 and "examples:" in process.stdout and "minilm" in process.stdout


# -- benchmarks/peers_cpu.py ---------------------------------------------------------------------------------


def test_peers_quick_and_resume(tmp_path):
    script, out = ROOT / "benchmarks" / "peers_cpu.py", tmp_path / "peers.json"
    options = ("--quick", "--only", "gelu:64x256.*fp32 tokens=1$", "--threads", 1, "--out", out)
    process = run(script, *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    result = json.loads(out.read_text())
    (key,) = result["cells"]
    cell = result["cells"][key]
    assert key == "gelu:64x256+bias,fp32 tokens=1"
    assert set(cell["modes"]) == {"eager", "compile", "freeze", "fused"}
    assert all(mode["median_us"] > 0 and mode["repeats"] == 5 for mode in cell["modes"].values()), cell
    assert cell["fused_to_eager"] < 1e-5 and cell["limit_us"] > 0
    made_with = result["made_with"][cell["made_with"]]
    assert made_with["threads"] == 1 and "peers_cpu.py --quick" in made_with["command"]
    assert key in process.stdout and "best/fused" in process.stdout

    before = out.stat().st_mtime_ns
    again = run(script, *options, cwd=tmp_path)
    assert again.returncode == 0 and "1 of 1 cells" in again.stderr and again.stdout == process.stdout
    assert out.stat().st_mtime_ns == before

    made_by = cell["made_with"]
    cell["made_with"] = "another CPU, version or number of threads"
    out.write_text(json.dumps(result))
    anew = run(script, *options, cwd=tmp_path)
    assert anew.returncode == 0 and "[1/1]" in anew.stderr
    assert json.loads(out.read_text())["cells"][key]["made_with"] == made_by


@pytest.mark.parametrize(
    "options, message",
    [(("--only", "no such cell"), "fits no cell"), (("--only", "("), "not a regular expression")],
)
def test_peers_wrong_input(tmp_path, options, message):
    process = run(ROOT / "benchmarks" / "peers_cpu.py", *options, cwd=tmp_path)
    assert process.returncode == 2 and message in process.stderr and "Traceback" not in process.stderr


# -- benchmarks/peers_gpu.py ---------------------------------------------------------------------------------


def test_gpu_table_is_that_of_the_readme(tmp_path):
    result = ROOT / "benchmarks" / "results" / "gpu_peers_h200.json"
    process = run(ROOT / "benchmarks" / "peers_gpu.py", "--table", result, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    readme = (ROOT / "README.md").read_text().replace("*", " ")  # marks rows, explained below the table
    assert f"\n```\n{process.stdout}```\n" in readme


def test_gpu_peers_of_nothing(tmp_path):
    process = run(ROOT / "benchmarks" / "peers_gpu.py", cwd=tmp_path)
    assert process.returncode == 2 and "--out --table" in process.stderr and "Traceback" not in process.stderr
