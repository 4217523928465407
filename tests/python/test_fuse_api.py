"""Arguments, reasons for what is left alone, memory bounds, the self-check and the report."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fuse_models
import fusedmlp
from fuse_helpers import Gated, Mlp, assert_as_exact, double, fused_calls, leftovers
from fusedmlp import fuse_check
from fusedmlp.fuse import fuse, unfuse
from fusedmlp.modules import packed_bytes


def _reason(model: nn.Module) -> str:
    """The only reason of a model with one MLP that is left alone, which then runs as before."""
    before = type(model)
    report = fuse(model)
    assert report.replaced == [] and len(report.skipped) == 1, str(report)
    assert type(model) is before and leftovers(model) == []
    return report.skipped[0].reason


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        ((None,), {}, TypeError, "model: must be an nn.Module, got NoneType"),
        ((nn.Linear,), {}, TypeError, "model: must be an nn.Module"),
        ((Mlp(),), {"max_extra_bytes": -1}, ValueError, "max_extra_bytes: must be >= 0, got -1"),
        ((Mlp(),), {"max_extra_bytes": 1.5}, TypeError, "max_extra_bytes: must be None or an int, got float"),
        ((Mlp(),), {"max_extra_bytes": True}, TypeError, "max_extra_bytes: must be None or an int, got bool"),
        ((Mlp(),), {"check": 1}, TypeError, "check: must be a bool, got int"),
    ],
)
def test_wrong_arguments(arguments, keywords, error, text: str) -> None:
    with pytest.raises(error, match=text):
        fuse(*arguments, **keywords)


def test_unfuse_wants_a_module() -> None:
    with pytest.raises(TypeError, match="model: must be an nn.Module, got int"):
        unfuse(3)


def test_it_is_exported() -> None:
    assert fusedmlp.fuse is fuse


# -- what is left alone, and why -----------------------------------------------------------------------------


class _Rounded(nn.Linear):
    def forward(self, x):
        return super().forward(x).round()


class _Tagged(torch.Tensor):
    pass


def _with(change) -> nn.Module:
    model = Mlp()
    change(model)
    return model


def _subclass_weight(model: Mlp) -> None:
    model.first.weight = nn.Parameter(torch.randn(56, 24).as_subclass(_Tagged))


REASONS = {
    "float64": (lambda: Mlp().double(), "float64: kernels take float32"),
    "meta": (lambda: Mlp().to("meta"), "meta device"),
    "mixed": (lambda: _with(lambda m: m.second.bfloat16()), "weights of mixed dtype: first.weight float32"),
    "hook": (lambda: _with(lambda m: m.first.register_forward_hook(print)), "first has hooks"),
    "pre-hook": (
        lambda: _with(lambda m: m.activation.register_forward_pre_hook(print)),
        "activation has hooks",
    ),
    "subclass": (
        lambda: _with(lambda m: setattr(m, "first", _Rounded(24, 56))),
        "first is .*_Rounded, not a plain",
    ),
    "parametrized": (
        lambda: _with(lambda m: parametrizations.weight_norm(m.first)),
        "first is .*ParametrizedLinear, not a plain",
    ),
    "tensor subclass": (lambda: _with(_subclass_weight), "tensor subclass, _Tagged"),
    "activation": (
        lambda: Mlp(activation=nn.Mish()),
        r"activation \(torch.*Mish\) between the Linears is not known",
    ),
    "instance forward": (
        lambda: _with(lambda m: setattr(m, "forward", m.second.forward)),
        "replaced on the instance",
    ),
    "lazy": (
        lambda: _with(lambda m: setattr(m, "first", nn.LazyLinear(56))),
        "first is .*LazyLinear, not a plain",
    ),
    "traced by fx": (lambda: torch.fx.symbolic_trace(Mlp()), "fx.GraphModule"),
    "shapes": (lambda: _with(lambda m: setattr(m, "second", nn.Linear(56, 0))), "a width is 0"),
}


@pytest.mark.parametrize("name", REASONS)
def test_left_alone(name: str) -> None:
    make, reason = REASONS[name]
    assert re.search(reason, _reason(make()))


def test_torchscript_is_left_alone() -> None:
    report = fuse(nn.ModuleDict({"mlp": torch.jit.trace(Mlp(), torch.randn(3, 24)), "other": Mlp()}))
    assert [entry.path for entry in report.replaced] == ["other"]
    assert [(e.path, e.reason) for e in report.skipped] == [
        ("mlp", "it is a TorchScript module, whose forward is compiled")
    ]


def test_quantised_modules_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(24, 56), nn.ReLU(), nn.Linear(56, 24))
    from torch.ao.quantization import quantize_dynamic

    quantised = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    report = fuse(quantised)
    assert report.replaced == []
    assert "quantized" in report.skipped[0].reason and "not a plain Linear" in report.skipped[0].reason


class _Forwards:
    """Forwards that look like an MLP and are none."""

    class TwoOutputs(Mlp):
        def forward(self, x):
            hidden = self.activation(self.first(x))
            return self.second(hidden), hidden

    class Scaled(Mlp):
        def forward(self, x):
            return self.second(self.activation(self.first(x)) * 2.0)

    class HiddenUsedTwice(Mlp):
        def forward(self, x):
            hidden = self.activation(self.first(x))
            return self.second(hidden) + hidden.mean()

    class DependsOnData(Mlp):
        def forward(self, x):
            if x.sum() > 0:
                x = -x
            return self.second(self.activation(self.first(x)))

    class Reversed(Mlp):
        def forward(self, x):
            return self.activation(self.second(self.first(x)))

    class Normed(Mlp):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(56)

        def forward(self, x):
            return self.second(self.norm(self.activation(self.first(x))))


@pytest.mark.parametrize("name", [name for name in vars(_Forwards) if not name.startswith("_")])
def test_forwards_that_are_no_mlp(name: str) -> None:
    model = getattr(_Forwards, name)()
    x = torch.randn(3, 24)
    with torch.no_grad():
        before = model(x)
        assert _reason(model)
        after = model(x)
    before, after = (value if isinstance(value, tuple) else (value,) for value in (before, after))
    assert all(torch.equal(a, b) for a, b in zip(after, before))


# -- what is recognised by its structure alone ---------------------------------------------------------------


class _Timm(Mlp):
    """As timm has it: an unused norm, dropouts in two places."""

    def __init__(self):
        super().__init__()
        self.drop1, self.norm, self.drop2 = nn.Dropout(0.1), nn.Identity(), nn.Dropout(0.1)

    def forward(self, x):
        x = self.drop1(self.activation(self.first(x)))
        return self.drop2(self.second(self.norm(x)))


class _Geglu(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(24, 112)

    def forward(self, x, *args, **kwargs):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * nn.functional.gelu(gate)


class _Diffusers(nn.Module):
    """As diffusers has it: a ModuleList, and the gate behind the value."""

    def __init__(self):
        super().__init__()
        self.net = nn.ModuleList([_Geglu(), nn.Dropout(0.0), nn.Linear(56, 24)])

    def forward(self, x, *args, **kwargs):
        for module in self.net:
            x = module(x)
        return x


class _SquaredRelu(Mlp):
    def forward(self, x):
        return self.second(torch.square(nn.functional.relu(self.first(x))))


class _ResidualAndNorms(Mlp):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(24), nn.LayerNorm(24)

    def forward(self, x):
        return self.after(x + self.second(self.activation(self.first(self.before(x)))))


STRUCTURES = {
    "timm": (_Timm, "gelu:24x56+bias,fp32"),
    "diffusers": (_Diffusers, "geglu:24x56+bias,fp32,gate=last"),
    "squared relu": (_SquaredRelu, "relu2:24x56+bias,fp32"),
    "norms and residual": (_ResidualAndNorms, "gelu:24x56+bias,fp32"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name: str) -> None:
    make, spec = STRUCTURES[name]
    model = make().eval()
    x = torch.randn(2, 5, 24)
    with torch.no_grad():
        original, exact = model(x), double(model)(x.double())
        report = fuse(model)
        assert [entry.spec for entry in report.replaced] == [spec], str(report)
        assert fused_calls(lambda: model(x)) == 1
        assert_as_exact(model(x), original, exact)


def test_torch_transformer_layers() -> None:
    encoder = nn.TransformerEncoderLayer(24, 4, 56, batch_first=True)
    decoder = nn.TransformerDecoderLayer(24, 4, 56, batch_first=True, activation="gelu")
    report = fuse(nn.ModuleDict({"encoder": encoder, "decoder": decoder}).eval())
    assert [entry.spec for entry in report.replaced] == ["relu:24x56+bias,fp32", "gelu:24x56+bias,fp32"]
    assert "fast path" in report.replaced[0].note and report.replaced[1].note == ""
    x = torch.randn(2, 5, 24)
    with torch.no_grad():
        assert fused_calls(lambda: decoder(x, x)) == 1
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert fused_calls(lambda: encoder(x)) == 1
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


class _OptionalScale(Mlp):
    def forward(self, x, scale=None):
        y = self.second(self.activation(self.first(x)))
        return y if scale is None else y * scale


def test_optional_arguments_run_the_module_itself() -> None:
    model = _OptionalScale()
    assert len(fuse(model).replaced) == 1
    x = torch.randn(3, 24)
    with torch.no_grad():
        assert fused_calls(lambda: model(x)) == 1
        assert fused_calls(lambda: model(x, 3.0)) == fused_calls(lambda: model(x, scale=3.0)) == 0
        torch.testing.assert_close(model(x, 3.0), model(x) * 3.0)


class _TrainsDifferently(Mlp):
    def forward(self, x):
        y = self.second(self.activation(self.first(x)))
        return y + torch.ones_like(y) if self.training else y


def test_a_forward_that_differs_in_training_is_fused_in_evaluation() -> None:
    model = _TrainsDifferently()
    report = fuse(model)
    assert "evaluation only" in str(report)
    x = torch.randn(3, 24)
    with torch.no_grad():
        assert fused_calls(lambda: model.train()(x)) == 0
        trained = model(x)
        assert fused_calls(lambda: model.eval()(x)) == 1
        torch.testing.assert_close(trained, model(x) + 1)


def test_experts_get_a_reason() -> None:
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.randn(2, 16, 8))
            self.down_proj = nn.Parameter(torch.randn(2, 8, 8))

    assert "expert" in _reason(Experts())


def test_heads_that_are_no_mlp_are_not_listed() -> None:
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 5)

        def forward(self, x):
            return self.a(x), self.b(x)

    report = fuse(Heads())
    assert report.replaced == report.skipped == []
    assert report.counts == {"modules": 4, "linears": 2, "linears_fused": 0}
    assert str(report) == "fusedmlp: nothing was fused: no MLP was found"


# -- memory --------------------------------------------------------------------------------------------------


def test_extra_bytes_are_what_is_held() -> None:
    case = fuse_models.make("llama")
    report = fuse(case.model)
    assert report.extra_bytes == packed_bytes(case.model) > 0
    report.undo()
    assert packed_bytes(case.model) == 0


def test_max_extra_bytes() -> None:
    whole = fuse(fuse_models.make("llama").model).extra_bytes
    case = fuse_models.make("llama")
    report = fuse(case.model, max_extra_bytes=whole - 1)
    assert report.extra_bytes == packed_bytes(case.model) == whole // 2
    assert [entry.packed for entry in report.replaced].count(False) == 1
    assert "1 without a packed copy" in str(report)
    assert fused_calls(lambda: fuse_models.output(case.model, case.inputs)) == 2
    assert packed_bytes(case.model) == whole // 2
    report.undo()
    assert leftovers(case.model) == []


def test_no_extra_bytes_at_all() -> None:
    model = Gated()
    report = fuse(model, max_extra_bytes=0)
    x = torch.randn(3, 24)
    with torch.no_grad():
        assert fused_calls(lambda: model(x)) == 1
    assert packed_bytes(model) == report.extra_bytes == 0


def test_without_the_check_it_packs_too() -> None:
    model = Gated()
    report = fuse(model, check=False)
    assert report.extra_bytes == packed_bytes(model) > 0
    assert report.replaced[0].error_fused is None


# -- the self-check ------------------------------------------------------------------------------------------


def test_a_wrong_kernel_is_found(monkeypatch) -> None:
    monkeypatch.setattr(fuse_check, "run_core", lambda owner, site, x: torch.zeros(2, 3, 24))
    assert "self-check: the fused result is further from fp64" in _reason(Mlp())


def test_a_kernel_with_a_small_error_is_found(monkeypatch) -> None:
    real = fuse_check.run_core
    monkeypatch.setattr(fuse_check, "run_core", lambda *args: real(*args) * (1 + 2e-6))
    assert "self-check" in _reason(Mlp())


def test_a_kernel_that_fails_is_reported(monkeypatch) -> None:
    def fail(owner, site, x):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(fuse_check, "run_core", fail)
    assert _reason(Mlp()) == "the fused call failed: no such kernel"


def test_an_activation_taken_for_another_is_found(monkeypatch) -> None:
    from fusedmlp import patterns

    monkeypatch.setitem(patterns._ACTIVATION_CLASSES, "torch.nn.modules.activation.Softplus", "silu")
    assert "self-check: the original result is further from fp64" in _reason(Mlp(activation=nn.Softplus()))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"]
)
def test_widths_of_real_models_pass(dtype: torch.dtype) -> None:
    """Long sums: what BERT and a small Llama have. A kernel that adds in one long chain fails here in fp32."""
    for model in (Mlp(768, 3072), Gated(1024, 2816)):
        assert len(fuse(model.to(dtype)).replaced) == 1


def test_random_state_and_modes_are_untouched() -> None:
    model = fuse_models.make("bert").model.train()
    model.encoder.layer[0].eval()
    flags = [module.training for module in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    fuse(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_weights_that_are_not_finite_are_no_failure() -> None:
    model = Mlp()
    with torch.no_grad():
        model.first.weight[3, 4] = float("nan")
    assert len(fuse(model).replaced) == 1


# -- the report ----------------------------------------------------------------------------------------------


def test_report_groups_layers() -> None:
    case = fuse_models.make("bert")
    text = str(fuse(case.model))
    row = next(line for line in text.splitlines() if line.startswith("encoder.layer."))
    assert row.split()[:4] == ["encoder.layer.{0..1}", "x2", "BertLayer", "gelu:48x104+bias,fp32"]
    assert "2 MLPs fused (4 of 13 Linears)" in text


def test_report_columns_line_up() -> None:
    model = nn.ModuleDict({"short": Mlp(), "a_much_longer_name": Gated()})
    lines = str(fuse(model)).splitlines()[2:]
    column = lines[0].index("MLP ")
    assert [line[column:].split(":")[0] for line in lines[2:]] == ["gelu", "swiglu"]


def test_report_as_json() -> None:
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 3))
    report = fuse(model, max_extra_bytes=1 << 20)
    read = json.loads(report.json())
    assert read == report.to_dict()
    assert read["max_extra_bytes"] == 1 << 20 and read["extra_bytes"] == report.extra_bytes
    assert read["replaced"][0]["spec"] == "relu:12x40->16+bias,fp32"
    assert read["counts"]["linears"] == 3 and read["counts"]["linears_fused"] == 2


def test_the_spec_is_one_the_library_reads() -> None:
    for name in ("bert", "llama", "phi3", "t5", "modernbert", "nemotron"):
        for entry in fuse(fuse_models.make(name).model.bfloat16()).replaced:
            assert fusedmlp.explain(entry.spec, 16)


def test_a_printed_model_shows_what_is_fused() -> None:
    model = Mlp()
    report = fuse(model)
    assert repr(model).startswith("FusedMlp(")
    assert type(model).__name__ == "Mlp" and isinstance(model, Mlp)
    report.undo()
    assert repr(model).startswith("Mlp(")


def test_undo_twice_and_after_unfuse() -> None:
    model = Mlp()
    report = fuse(model)
    assert unfuse(model) == 1
    report.undo()
    report.undo()
    assert type(model) is Mlp
