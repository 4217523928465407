"""analyze(), compare() and explain_kernel(): what they return, how it is laid out, and how they fail."""

import gzip
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import fusedmlp

TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
EAGER = TRACES / "geglu_768_3072_eager_shapes.json.gz"
COMPILED = TRACES / "geglu_768_3072_compile_shapes.json.gz"


@pytest.fixture(scope="module")
def eager():
    return fusedmlp.analyze(EAGER)


def mlp_profile():
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)).eval()
    with torch.no_grad(), torch.profiler.profile(record_shapes=True) as profiler:
        model(torch.randn(8, 32))
    return profiler


def test_names_of_the_package_are_functions():
    assert callable(fusedmlp.analyze) and callable(fusedmlp.compare) and callable(fusedmlp.explain_kernel)


def test_what_an_analysis_holds(eager):
    assert eager["schema"] == "fusedmlp-analysis-1"
    assert eager.trace.device == "NVIDIA H200" and eager["trace"]["kernels"] == 15
    (mlp,) = eager.mlps
    assert (mlp.kind, mlp.gated, mlp.tokens, mlp["d_in"], mlp.d_hidden, mlp.d_out) == (
        "geglu",
        True,
        8192,
        768,
        3072,
        768,
    )
    assert mlp.dtype == "bf16" and mlp.instances == 3 and mlp.experts is None
    assert mlp.launches_per_instance == 5 and [kernel.role for kernel in mlp.kernels].count("down") == 1
    assert eager.summary.gpu_busy_us == pytest.approx(700.251)
    with pytest.raises(AttributeError, match="no 'nothing'; it has kind"):
        mlp.nothing
    assert "kind" in dir(mlp)


def test_strings(eager):
    assert repr(eager).startswith("<fusedmlp.Analysis of ") and eager.summary.headline in repr(eager)
    assert repr(eager.mlps[0]).startswith("<Mlp geglu 768x3072, 8192 tokens, bf16, 23")
    assert str(eager) == eager.table(80, color=False)
    assert "geglu 768x3072 bf16" in str(eager)
    assert max(map(len, eager.table(70).splitlines())) <= 70
    assert "\x1b" not in eager.table() and "\x1b[1m" in eager.table(color=True)


def test_json_comes_back(eager, tmp_path):
    path = eager.save_json(tmp_path / "analysis.json")
    assert path == tmp_path / "analysis.json"
    again = fusedmlp.analyze(str(path))
    assert again == eager and str(again) == str(eager)
    assert [file.name for file in tmp_path.iterdir()] == ["analysis.json"]


def test_html(eager, tmp_path):
    page = eager.save_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == eager.html() and page.startswith("<!doctype html>") and "<script" not in page
    assert "sandbox" in eager._repr_html_() and "<!doctype" not in eager._repr_html_()


def test_pandas_is_optional(eager, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        eager.to_pandas()


def test_data_frame(eager):
    pytest.importorskip("pandas")
    frame = eager.to_pandas()
    assert len(frame) == 1 and frame.loc[0, "kind"] == "geglu" and frame.loc[0, "tokens"] == 8192
    assert "breakdown_gemm_us" in frame.columns and frame.loc[0, "kernels"] == 5


def test_rows_of_the_data_frame(eager, monkeypatch):
    """What is handed to pandas, where it is not installed."""
    seen = []
    fake = type(sys)("pandas")
    fake.DataFrame = lambda rows: seen.extend(rows) or rows
    monkeypatch.setitem(sys.modules, "pandas", fake)
    eager.to_pandas()
    (row,) = seen
    assert row["kind"] == "geglu" and "breakdown_gemm_us" in row and row["kernels"] == 5
    assert not any(isinstance(value, (list, dict)) for value in row.values())


def test_a_profiler_object_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    analysis = fusedmlp.analyze(mlp_profile())
    assert analysis.trace.device is None and analysis.trace.path == "torch.profiler"
    (mlp,) = analysis.mlps
    assert (mlp.kind, mlp.tokens, mlp.d_in, mlp.d_hidden, mlp.bias) == ("gelu", 8, 32, 64, True)
    assert list(tmp_path.glob("fusedmlp-*")) == []


def test_a_failed_export_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="trace: this profiler has nothing to export"):
        fusedmlp.analyze(torch.profiler.profile())

    class Broken:
        def export_chrome_trace(self, path):
            Path(path).write_text("no trace")

    with pytest.raises(ValueError, match="trace: "):
        fusedmlp.analyze(Broken())
    assert list(tmp_path.glob("fusedmlp-*")) == []


@pytest.mark.parametrize(
    "value, error, message",
    [
        (None, TypeError, "trace: must be a path or a torch.profiler.profile, got NoneType"),
        (3, TypeError, "trace: must be a path"),
        (b"x.json", TypeError, "trace: must be a path"),
        ("", ValueError, "trace: got ''"),
        ("a\0b", ValueError, "trace: got 'a"),
        ("absent.json", ValueError, "trace: .*absent.json"),
        (TRACES, ValueError, "trace: .*directory"),
    ],
)
def test_wrong_traces(value, error, message):
    with pytest.raises(error, match=message):
        fusedmlp.analyze(value)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"target": 7}, TypeError, "target: must be a str"),
        ({"peak_flops": "1"}, TypeError, "peak_flops: must be a number"),
        ({"peak_flops": 0}, ValueError, "peak_flops: got 0"),
        ({"peak_bandwidth": True}, TypeError, "peak_bandwidth: must be a number"),
        ({"peak_bandwidth": float("inf")}, ValueError, "peak_bandwidth: got inf"),
        ({"python_functions": 1}, TypeError, "python_functions: must be a bool"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        fusedmlp.analyze(EAGER, **options)


def test_wrong_layout_arguments(eager, tmp_path):
    with pytest.raises(TypeError, match="width: must be an int"):
        eager.table("80")
    with pytest.raises(ValueError, match="width: got 0"):
        eager.table(0)
    with pytest.raises(TypeError, match="color: must be a bool"):
        eager.table(color=1)
    with pytest.raises(TypeError, match="path: must be a path, got NoneType"):
        eager.save_html(None)
    with pytest.raises(OSError):
        eager.save_json(tmp_path / "absent" / "x.json")


def test_a_saved_analysis_that_is_none(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"schema": "fusedmlp-comparison-1"}')
    with pytest.raises(ValueError, match="trace: .*fusedmlp-comparison-1"):
        fusedmlp.analyze(path)
    path.write_text('{"schema": "fusedmlp-analysis-1", ')
    with pytest.raises(ValueError, match="trace: "):
        fusedmlp.analyze(path)


@pytest.mark.parametrize(
    "option",
    [
        {"target": "A100"},
        {"target": "GTX"},
        {"peak_flops": 1e15},
        {"peak_bandwidth": 1e12},
        {"python_functions": True},
    ],
)
def test_a_saved_analysis_keeps_its_device(eager, tmp_path, option):
    path = eager.save_json(tmp_path / "x.json")
    with pytest.raises(
        ValueError, match=f"^{next(iter(option))}: .*x.json is a saved analysis.*analyze the trace again"
    ):
        fusedmlp.analyze(path, **option)
    assert fusedmlp.analyze(path, python_functions=False).summary == eager.summary


def test_a_fifo_is_read_once(eager, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(EAGER.read_bytes(),), daemon=True)
    writer.start()
    assert fusedmlp.analyze(fifo).summary == eager.summary
    writer.join()


def test_a_damaged_trace_warns(tmp_path):
    whole = gzip.decompress(EAGER.read_bytes())
    path = tmp_path / "cut.json"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    analysis = fusedmlp.analyze(path)
    assert analysis.mlps and analysis.trace.warnings


def test_compare(eager, tmp_path):
    comparison = fusedmlp.compare(eager, COMPILED)
    assert comparison["schema"] == "fusedmlp-comparison-1"
    assert comparison.before is eager and comparison.after.mlps[0].launches_per_instance == 4
    (pair,) = comparison.mlps
    assert pair.change.startswith("5 launches became 4") and pair.speedup > 1
    names = {change.name: (change.count_a, change.count_b) for change in comparison.kernels}
    assert any(name.startswith("triton_") and counts == (0, 3) for name, counts in names.items())
    assert "came" in str(comparison) and repr(comparison).startswith("<fusedmlp.Comparison: ")
    assert "Before and after" in comparison.save_html(tmp_path / "c.html").read_text(encoding="utf-8")
    assert json.loads(comparison.save_json(tmp_path / "c.json").read_text()) == comparison


@pytest.mark.parametrize("a, b, name", [(None, EAGER, "a"), (EAGER, 3, "b"), (EAGER, "absent", "b")])
def test_compare_names_the_wrong_one(a, b, name):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
        fusedmlp.compare(a, b)


def test_explain_kernel():
    words = fusedmlp.explain_kernel("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT")
    assert "tile 256x128x64" in words
    assert fusedmlp.explain_kernel("a name that nobody gave") is None
    assert fusedmlp.explain_kernel("\ud800\0") is None
    with pytest.raises(TypeError, match="name: must be a str"):
        fusedmlp.explain_kernel(3)
    with pytest.raises(ValueError, match="name: "):
        fusedmlp.explain_kernel("")
