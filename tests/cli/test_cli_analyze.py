"""`fusedmlp analyze` and `fusedmlp compare` as processes. The binary's path comes in FUSEDMLP_CLI."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import select
import subprocess
import threading
from pathlib import Path
from typing import BinaryIO, Union

import pytest

TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
EAGER = TRACES / "geglu_768_3072_eager_shapes.json.gz"
COMPILED = TRACES / "geglu_768_3072_compile_shapes.json.gz"
ALL = sorted(TRACES.glob("*.json.gz"))
KEYS = (
    "kind gated tokens d_in d_hidden d_out dtype bias phase instances launches_per_instance us_per_instance "
    "span_us_per_instance gap_us_per_instance experts top_k confidence regime verdict predicted_us "
    "prediction_basis reason kernels"
).split()


def run(*arguments: object, stdin: Union[bytes, BinaryIO] = b"") -> subprocess.CompletedProcess[str]:
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done = subprocess.run(
        [os.environ["FUSEDMLP_CLI"], *map(str, arguments)],
        capture_output=True,
        timeout=60,
        check=False,
        **given,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def succeeds(*arguments: object) -> str:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def fails(arguments: list[object], *words: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("fusedmlp: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def on_terminal(*arguments: object, columns: int = 80, **environment: str) -> str:
    """What the command writes to a terminal of that width, stderr included."""
    pid, terminal = pty.fork()
    if pid == 0:
        env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
        command = f'stty cols {columns} -onlcr; exec "$FUSEDMLP_CLI" "$@"'
        os.execvpe(
            "sh", ["sh", "-c", command, "sh", *map(str, arguments)], {**env, "TERM": "xterm", **environment}
        )
    out = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        out += chunk
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, out
    return out.decode()


@pytest.mark.parametrize("trace", ALL, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_every_trace_in_every_format(trace: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    saved = tmp_path / "analysis.json"
    text = succeeds("analyze", trace, "--html", page, "--json", saved)
    assert max(map(len, text.splitlines())) <= 80
    analysis = json.loads(saved.read_text())
    assert analysis["schema"] == "fusedmlp-analysis-1"
    assert set(analysis["trace"]) >= {"path", "device", "kernels", "memcpys", "memsets", "steps", "warnings"}
    assert set(analysis["summary"]) >= {"gpu_busy_us", "gpu_span_us", "mlp_us", "predicted_saving_us"}
    for row in analysis["mlps"]:
        assert set(KEYS) <= set(row)
        assert row["reason"], "a verdict has its reason"
    assert len(re.findall(r"^ *\d+ +\S+ \S+", text, re.MULTILINE)) >= len(analysis["mlps"])
    html = page.read_text()
    assert html.startswith("<!doctype html>") and "<script" not in html
    assert html.count("<article") == len(analysis["mlps"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["analysis.json", "report.html"]
    # What was saved reads back as what it was.
    assert succeeds("analyze", saved) == text


def test_pipes_are_read_once(tmp_path: Path) -> None:
    wanted = succeeds("analyze", EAGER).splitlines()[1:]  # without the file's name
    for content in (EAGER.read_bytes(), gzip.decompress(EAGER.read_bytes())):
        for name in ("-", "/dev/stdin"):
            done = run("analyze", name, stdin=content)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            assert done.stdout.splitlines() == ["/dev/stdin", *wanted]
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(content,), daemon=True)
        writer.start()
        assert succeeds("analyze", fifo).splitlines()[1:] == wanted
        writer.join()
        fifo.unlink()
    done = run("compare", "-", COMPILED, stdin=EAGER.read_bytes())
    assert (
        done.stdout.replace("/dev/stdin", str(EAGER)).split() == succeeds("compare", EAGER, COMPILED).split()
    )
    fails(["compare", "-", "-"], "A and B", "stdin")
    fails(["analyze", "-"], "/dev/stdin")  # nothing comes
    saved = tmp_path / "a.json"
    succeeds("analyze", EAGER, "--json", saved)
    with saved.open("rb") as file:  # a file all the same
        done = run("analyze", "-", stdin=file)
    assert done.stdout.splitlines()[1:] == wanted


def test_a_row_in_words() -> None:
    text = succeeds("analyze", EAGER)
    assert re.search(r"^1 +geglu 768x3072 bf16 +8192 +3 +5 +232 us", text, re.MULTILINE), text
    assert "NVIDIA H200: 15 kernels, 6 memsets, over 3 profiler steps." in text
    assert "\033" not in text


def test_stdout_takes_one_of_them_alone() -> None:
    assert json.loads(succeeds("analyze", EAGER, "--json", "-"))["trace"]["kernels"] == 15
    assert succeeds("analyze", EAGER, "--html", "-").startswith("<!doctype html>")
    fails(["analyze", EAGER, "--html", "-", "--json", "-"], "--json and --html")
    fails(["compare", EAGER, EAGER, "--html", "-", "--json", "-"], "--json and --html")


def test_target_and_peaks() -> None:
    def used(*options: object) -> dict:
        return json.loads(succeeds("analyze", EAGER, *options, "--json", "-"))["device_used"]

    assert used("--target", "A100")["name"] != used()["name"]
    given = used("--peak-flops", "1e15", "--peak-bandwidth", "2e12")
    assert (given["peak_flops"], given["peak_bandwidth"]) == (1e15, 2e12)


def test_a_target_without_kernels_of_its_own() -> None:
    text = " ".join(succeeds("analyze", EAGER, "--target", "B200").split())
    assert "On B200, fusing the MLP of this trace would not pay." in text
    assert "B200 has this library's portable kernel alone" in text
    text = " ".join(succeeds("analyze", EAGER, "--target", "A100").split())
    assert "On A100 SXM 80GB, fusing the MLP would save about" in text and "portable form" in text


@pytest.mark.parametrize(
    "options, words",
    [
        (["--target", "GTX"], ["--target", "GTX", "H100"]),
        (["--peak-flops", "-1"], ["--peak-flops"]),
        (["--peak-flops", "0"], ["--peak-flops"]),
        (["--peak-bandwidth", "x"], ["--peak-bandwidth"]),
        (["--nonsense"], ["--nonsense"]),
        (["--html"], ["--html"]),
    ],
)
def test_wrong_options(options: list[str], words: list[str]) -> None:
    fails(["analyze", EAGER, *options], *words)


def test_wrong_files(tmp_path: Path) -> None:
    fails(["analyze"], "TRACE")
    fails(["analyze", tmp_path / "absent.json"], "absent.json")
    fails(["analyze", tmp_path], str(tmp_path))
    fails(["compare", EAGER], "B")
    fails(["compare", EAGER, tmp_path / "absent.json"], "absent.json")
    for name, content in {"empty.json": b"", "text.json": b"not a trace", "other.json": b'{"a": 1}'}.items():
        (tmp_path / name).write_bytes(content)
        fails(["analyze", tmp_path / name], name)
    broken = tmp_path / "broken.json"
    broken.write_text('{ "schema": "fusedmlp-analysis-1" }')
    fails(["analyze", broken], "broken.json", "trace is missing")
    broken.write_text('{"schema":"fusedmlp-comparison-1"}')
    fails(["analyze", broken], "broken.json", "fusedmlp-comparison-1")
    fails(["analyze", EAGER, "--html", tmp_path], "--html", "directory")
    fails(["analyze", EAGER, "--html", tmp_path / "absent" / "x.html"], "--html", "No such file")


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "A100"],
        ["--target", "GTX"],
        ["--peak-flops", "1e15"],
        ["--peak-bandwidth", "1e12"],
        ["--python-functions"],
    ],
)
def test_a_saved_analysis_takes_no_options_of_traces(options: list[str], tmp_path: Path) -> None:
    saved = tmp_path / "a.json"
    succeeds("analyze", EAGER, "--json", saved)
    for arguments in (["analyze", saved], ["compare", saved, EAGER], ["compare", EAGER, saved]):
        if "GTX" in options and arguments[:2] == ["compare", EAGER]:
            continue  # the trace's own refusal comes first
        fails(
            [*arguments, *options], f"{options[0]}: ", "a.json", "saved analysis", "analyze the trace again"
        )


def test_a_failed_run_leaves_old_files(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    fails(["analyze", tmp_path / "absent.json", "--html", page], "absent.json")
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_cut_trace_gives_what_was_read(tmp_path: Path) -> None:
    whole = gzip.decompress(EAGER.read_bytes())
    cut = tmp_path / "cut.json"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    text = succeeds("analyze", cut)
    assert re.search(r"^warning: .*\d", text, re.MULTILINE), text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    trace = json.loads(gzip.decompress(EAGER.read_bytes()))
    for event in trace["traceEvents"]:
        if event.get("cat") == "kernel":
            event["name"] += "<script>alert(1)</script>&\x1b[31m"
    hostile = tmp_path / "<b>&'.json"
    hostile.write_text(json.dumps(trace))
    text = succeeds("analyze", hostile)
    assert "\x1b" not in text
    html = succeeds("analyze", hostile, "--html", "-")
    assert "<script" not in html and "\x1b" not in html and "<b>&" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html and "&lt;b&gt;&amp;&#39;.json" in html
    assert "<script" not in succeeds("compare", hostile, EAGER, "--html", "-")


def test_a_trace_that_does_not_name_its_gpu(tmp_path: Path) -> None:
    trace = json.loads(gzip.decompress(EAGER.read_bytes()))
    del trace["deviceProperties"]
    for content in (trace, trace["traceEvents"]):
        path = tmp_path / "t.json"
        path.write_text(json.dumps(content))
        text = succeeds("analyze", path)
        assert "15 kernels on a GPU that the trace does not name, 6 memsets" in text
        assert "CPU" not in text
        assert "What fusing would save cannot be told" in text
        given = ("--peak-flops", "200e12", "--peak-bandwidth", "4.8e12")
        row = json.loads(succeeds("analyze", path, *given, "--json", "-"))["mlps"][0]
        assert row["predicted_us"] > row["limit_us"] > 0 and row["prediction_basis"] == "modelled"
        text = succeeds("analyze", path, *given)
        assert "Device: a GPU that the trace does not name: 200 TFLOP/s" in text and "no kernel" not in text
        text = " ".join(succeeds("compare", path, EAGER).split())
        assert "(a GPU that the trace does not name, " in text and "(CPU" not in text


def test_terminal_width_colour_and_progress() -> None:
    plain = re.compile(r"\x1b\[[0-9;]*[mK]")
    text = on_terminal("analyze", EAGER, columns=120)
    assert "\x1b[1m" in text and "do not fuse" in text or "fuse" in text
    assert "reading " in text and " of " in text, "progress is shown to a person"
    report = text[text.rindex("\r") + 1 :]
    lines = [plain.sub("", line) for line in report.splitlines()]
    assert max(map(len, lines)) <= 120 and any("launches" in line for line in lines)
    assert "\x1b[1m" not in on_terminal("analyze", EAGER, NO_COLOR="1")
    assert "\x1b[1m" not in on_terminal("analyze", EAGER, TERM="dumb")


def test_compare() -> None:
    text = succeeds("compare", EAGER, COMPILED)
    assert re.search(r"5 launches became \d", text), text
    assert "went" in text and "came" in text
    comparison = json.loads(succeeds("compare", EAGER, COMPILED, "--json", "-"))
    assert comparison["schema"] == "fusedmlp-comparison-1"
    assert comparison["a"]["trace"]["path"] == str(EAGER)
    pair = comparison["mlps"][0]
    assert pair["a"]["kind"] == pair["b"]["kind"] == "geglu"
    assert pair["b"]["launches_per_instance"] < pair["a"]["launches_per_instance"]
    html = succeeds("compare", EAGER, COMPILED, "--html", "-")
    assert "Before and after" in html and html.count('class="timeline"') >= 2


def test_compare_saved_analyses(tmp_path: Path) -> None:
    for name, trace in (("a", EAGER), ("b", COMPILED)):
        succeeds("analyze", trace, "--json", tmp_path / f"{name}.json")
    assert succeeds("compare", tmp_path / "a.json", tmp_path / "b.json") == succeeds(
        "compare", EAGER, COMPILED
    )
