"""profile() as a function, and its parts: bytes, counting, timing, comparison."""

import json
import math
import re

import pytest
import torch
from torch import nn

import fusedmlp
from fusedmlp import capi
from fusedmlp.agreement import cosines, relative_error, sample_rows, sentence_embeddings, tensors_of
from fusedmlp.profile_bytes import Shape, Traffic, flops, traffic
from fusedmlp.profile_ops import observe
from fusedmlp.profile_table import notes, verdict
from fusedmlp.profile_timing import measure


class Block(nn.Module):
    """Pre-norm MLP with a residual, the usual layer of a transformer without its attention."""

    def __init__(self, d: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.norm(x))


def shape(text: str) -> Shape:
    return Shape.from_spec(capi.parse_spec(text))


# -- bytes and flops, against sums done by hand --------------------------------------------------------------


def test_traffic_of_a_plain_mlp():
    mlp = shape("gelu:4x8->2+bias,fp32")  # weights 32 + 16, biases 8 + 2; for 3 tokens x 12, hidden 24, y 6
    eager = traffic(mlp, 3, "eager")
    assert eager == Traffic(read=4 * ((12 + 32 + 8) + 24 + (24 + 16 + 2)), written=4 * (24 + 24 + 6))
    assert traffic(mlp, 3, "compiled") == eager  # one element-wise operation: nothing to fuse it with
    assert traffic(mlp, 3, "fused") == Traffic(read=4 * (12 + 32 + 8 + 16 + 2), written=4 * 6)


def test_traffic_of_a_gated_mlp():
    mlp = shape("geglu:4x8,bf16")  # three matrices of 32; for 5 tokens x 20, hidden 40, y 20
    first = 2 * (20 + 32)  # gate and up, each reading x
    assert traffic(mlp, 5, "eager") == Traffic(
        read=2 * (first + 40 + 80 + (40 + 32)), written=2 * (80 + 40 + 40 + 20)
    )
    assert traffic(mlp, 5, "compiled") == Traffic(
        read=2 * (first + 80 + (40 + 32)), written=2 * (80 + 40 + 20)
    )
    assert traffic(mlp, 5, "fused") == Traffic(read=2 * (20 + 96), written=2 * 20)


def test_traffic_counts_every_pass_of_an_activation_of_several_operations():
    one, two = shape("relu:4x8"), shape("relu2:4x8")
    assert traffic(two, 3, "eager").read - traffic(one, 3, "eager").read == 4 * 24
    assert traffic(two, 3, "compiled") == traffic(one, 3, "compiled")
    assert traffic(shape("identity:4x8"), 3, "eager").total == 4 * ((12 + 32 + 24) + (24 + 32 + 12))


def test_traffic_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="variant: got 'best', accepted are eager, compiled, fused"):
        traffic(shape("gelu:4x8"), 1, "best")


def test_flops():
    assert flops(shape("gelu:4x8->2+bias"), 3) == 2 * 3 * (4 * 8 + 8 * 2)
    assert flops(shape("swiglu:4x8"), 3) == 2 * 3 * (2 * 4 * 8 + 8 * 4)


# -- counting ------------------------------------------------------------------------------------------------


def test_eager_operations_without_views_and_composites():
    x, linear = torch.randn(4, 8), nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        ops, output = observe(lambda: torch.nn.functional.gelu(linear(x)).view(2, 16).t())
    assert ops.names == ("aten::mm", "aten::gelu")
    assert ops.dispatched > ops.computing == 2
    assert output.shape == (16, 2)


def test_a_fused_mlp_is_one_operation():
    mlp = fusedmlp.FusedMLP(16, 32, activation="gelu", gated=True)
    x = torch.randn(4, 16)
    with torch.no_grad():
        mlp(x)
        ops, _ = observe(lambda: mlp(x))
    assert ops.computing == 1 and ops.names[0].startswith("fusedmlp::")


# -- timing --------------------------------------------------------------------------------------------------


def test_measure_interleaves_and_rotates():
    order = []
    timings = measure({name: (lambda name=name: order.append(name)) for name in "ab"}, repeats=4)
    assert [timings[name].repeats for name in "ab"] == [4, 4]
    calls = timings["a"].inner
    rounds = order[-4 * (calls + timings["b"].inner) :]
    assert rounds[0] == "a" and rounds[calls + timings["b"].inner] == "b"


def test_measure_stops_at_its_budget_but_not_below_three_rounds(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("fusedmlp.profile_timing.time.perf_counter", lambda: float(next(clock)))
    slow = measure({"slow": lambda: None}, seconds_per_variant=0.5)["slow"]  # each call takes one second
    assert slow.repeats == 3 and slow.median == slow.mean == 1.0 and slow.inner == 1
    assert measure({"slow": lambda: None}, seconds_per_variant=7.5)["slow"].repeats == 7
    assert measure({"slow": lambda: None}, repeats=2)["slow"].repeats == 2


def test_measure_makes_samples_as_long_as_asked(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("fusedmlp.profile_timing.time.perf_counter", lambda: next(clock) / 1000)
    timings = measure({"call": lambda: None}, repeats=2, sample_seconds=0.0195)  # each call takes a millisecond
    assert timings["call"].inner == 20


def test_measure_refuses_no_repeats():
    with pytest.raises(ValueError, match="repeats: got 0"):
        measure({"a": lambda: None}, repeats=0)


# -- comparison ----------------------------------------------------------------------------------------------


def test_relative_error():
    truth = torch.tensor([3.0, 4.0])
    assert relative_error([truth + torch.tensor([0.0, 0.05])], [truth]) == pytest.approx(0.01, rel=1e-5)
    assert math.isnan(relative_error([torch.tensor([float("nan"), 4.0])], [truth]))
    assert relative_error([torch.zeros(2)], [torch.zeros(2)]) == 0.0
    with pytest.raises(ValueError, match="shape"):
        relative_error([torch.zeros(3)], [truth])


def test_tensors_of_takes_floats_from_nested_outputs():
    output = {"a": torch.zeros(2), "b": (torch.ones(1), torch.arange(3)), "c": None}
    assert [tensor.numel() for tensor in tensors_of(output)] == [2, 1]


def test_sample_rows_spans_all_rows():
    assert sample_rows(5).tolist() == [0, 1, 2, 3, 4]
    rows = sample_rows(8192)
    assert len(rows) == 1024 and rows[0] == 0 and rows[-1] == 8191 and len(rows.unique()) == 1024


def test_embeddings_ignore_padding():
    hidden, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 0], [1, 1, 1]])
    padded = hidden.clone()
    padded[0, 2] = 100.0
    one, other = sentence_embeddings(hidden, mask), sentence_embeddings(padded, mask)
    assert torch.equal(one, other)
    assert torch.allclose(one[0], nn.functional.normalize(hidden[0, :2].double().mean(0), dim=0))
    assert torch.allclose(cosines(one, other), torch.ones(2, dtype=torch.float64))


# -- profile() -----------------------------------------------------------------------------------------------


def test_profile_of_a_model(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(Block(), Block()).train(), torch.randn(3, 7, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = fusedmlp.profile(model, x, repeats=3, compile=False, out=tmp_path)

    assert all(module.training for module in model.modules()) and type(model[0].mlp) is nn.Sequential
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    run = result.to_dict()["runs"][0]
    assert run["mlps"] == [{**run["mlps"][0], "spec": "gelu:32x64+bias,fp32", "tokens": 21, "count": 2}]
    eager, fused = result.row("eager"), result.row("fused")
    assert eager["mlp"]["op_names"] == ["aten::addmm", "aten::gelu", "aten::addmm"] * 2
    assert fused["mlp"]["ops"] == 2 and fused["model"]["ops"] == eager["model"]["ops"] - 4
    assert eager["mlp"]["repeats"] == fused["model"]["repeats"] == 3
    assert fused["extra_bytes"] > 0 and eager["extra_bytes"] == 0
    assert 0 < fused["mlp"]["error_fp64"] <= fused["mlp"]["error_bound"]
    assert run["agreement"]["fused_to_eager"] < 1e-5
    assert fused["mlp"]["modelled_bytes_read"] == 2 * traffic(shape("gelu:32x64+bias"), 21, "fused").read
    assert fused["mlp"]["gflops"] == pytest.approx(
        2 * flops(shape("gelu:32x64"), 21) / fused["mlp"]["median_us"] / 1e3, rel=1e-6
    )
    assert fused["mlp"]["limit_share"] == pytest.approx(run["limit_us"] / fused["mlp"]["median_us"])
    assert result.row("compiled")["status"] == "unavailable"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "eager.trace.json", "fused.trace.json", "profile.json", "profile.txt", "report.html"
    ]  # fmt: skip
    assert json.loads((tmp_path / "profile.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert "the MLPs alone" in str(result) and "the whole model" in str(result)


def test_profile_of_a_model_that_is_one_mlp_times_it_once():
    mlp = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
    result = fusedmlp.profile(mlp, {"input": torch.randn(5, 16)}, repeats=2, compile=False)
    assert result.row("fused")["mlp"]["ops"] == 1
    with pytest.raises(KeyError):
        result.row("FusedMLP")


def test_profile_of_a_fused_model_compares_with_what_it_was():
    model = nn.Sequential(Block())
    fusedmlp.fuse(model)
    result = fusedmlp.profile(model, torch.randn(4, 32), repeats=1, compile=False)
    assert (result.row("eager")["mlp"]["ops"], result.row("fused")["mlp"]["ops"]) == (3, 1)
    assert fusedmlp.fuse(model).counts["linears_fused"] == 2  # the caller's model is still fused


def test_profile_without_any_mlp_says_so():
    result = fusedmlp.profile(nn.LayerNorm(8), (torch.randn(2, 8),), repeats=2, compile=False)
    assert result.row("fused")["status"] == "unavailable" and not result.failed
    assert "fusing did not pay here: nothing was fused" in str(result)


def test_profile_reports_wrong_values_of_a_fused_mlp(monkeypatch):
    import fusedmlp.fuse_classes as fuse_classes

    right = fuse_classes.run_fused
    model = nn.Sequential(Block())
    original = fusedmlp.fuse

    def fuse_then_break(module, **keywords):
        report = original(module, **keywords)
        monkeypatch.setattr(fuse_classes, "run_fused", lambda *arguments: right(*arguments) * 1.01)
        return report

    monkeypatch.setattr("fusedmlp.profile_run.fuse", fuse_then_break)
    result = fusedmlp.profile(model, torch.randn(4, 32), repeats=1, compile=False)
    assert result.failed and "error against fp64" in result.row("fused")["reason"]
    assert "fusing failed" in str(result)


def test_profile_with_torch_compile(tmp_path):
    result = fusedmlp.profile(Block(), torch.randn(4, 32), repeats=2, out=tmp_path)
    compiled = result.row("compiled")
    assert compiled["status"] == "ok", compiled["reason"]
    assert compiled["compile_seconds"] > 0 and compiled["mlp"]["ops"] >= 2
    assert any("cpp_fused" in name for name in compiled["mlp"]["op_names"])
    assert compiled["mlp"]["error_fp64"] < 1e-5
    trace = json.loads((tmp_path / "compiled.trace.json").read_text())
    assert any("cpp_fused" in event.get("name", "") for event in trace["traceEvents"])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("no model", torch.zeros(1)), TypeError, "model: must be an nn.Module, got str"),
        ((nn.Identity(), 3), ValueError, "inputs: got int"),
        (
            (nn.Identity(), torch.zeros(1, device="meta")),
            NotImplementedError,
            "device: got meta, accepted is one device, cpu or cuda",
        ),
    ],
)
def test_profile_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        fusedmlp.profile(*arguments)


@pytest.mark.parametrize(
    "keywords, message", [({"repeats": 0}, "repeats: got 0"), ({"seconds": 0}, "seconds: got 0")]
)
def test_profile_refuses_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        fusedmlp.profile(nn.Identity(), torch.zeros(1), **keywords)


# -- the verdict ---------------------------------------------------------------------------------------------


def run_of(eager: float, compiled: float, fused: float) -> dict:
    times = {"eager": eager, "compiled": compiled, "fused": fused}
    return {"rows": [{"variant": v, "status": "ok", "mlp": {"median_us": t}} for v, t in times.items()]}


def test_verdict_says_when_fusing_did_not_pay():
    assert verdict(run_of(10, 8, 4)) == [
        "fusing paid for the MLPs alone: 4.0 us fused against 8.0 us compiled, 2.00x the best of the others"
    ]
    assert verdict(run_of(10, 8, 9)) == [
        "fusing did not pay here for the MLPs alone: 9.0 us fused against 8.0 us compiled, 1.12x slower; "
        "it is 1.11x eager"
    ]
    assert "a tie" in verdict(run_of(10, 12, 10.1))[0] and "did not pay" in verdict(run_of(10, 12, 10.1))[0]
    assert "did not pay" in verdict(run_of(10, 12, 20))[0]


@pytest.mark.parametrize(
    "share, mlp_spread, model_spread, said",
    [
        (0.34, 0.05, 0.15, "eager 34 %, fused 50 %"),
        (0.34, 0.16, 0.05, "left out, .* scatter"),
        (0.34, 0.05, 0.16, "left out, .* scatter"),
        (1.65, 0.05, 0.05, "left out, .* longer than the whole"),
    ],
)
def test_shares_are_told_where_timings_can_be_divided(share, mlp_spread, model_spread, said):
    def row(variant, share, mlp_spread, model_spread):
        timing = {"median_us": 1.0, "repeats": 5}
        model = {**timing, "spread": model_spread, "mlp_share": share}
        return {"variant": variant, "reason": None, "mlp": {**timing, "spread": mlp_spread}, "model": model}

    run = {"rows": [row("eager", share, mlp_spread, model_spread), row("fused", 0.5, 0, 0)]}
    (line,) = [line for line in notes(run) if line.startswith("share of the MLPs")]
    assert re.fullmatch(f"share of the MLPs in the model's time: {said}", line)
