"""Stretches of nn.Sequential."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fuse_helpers import assert_as_exact, double, fused_calls, leftovers
from fusedmlp.fuse import fuse


def _check(model: nn.Module, x: torch.Tensor, stretches: int) -> object:
    """Fuses, compares, undoes and fuses again; the report."""
    model.eval()
    with torch.no_grad():
        original, exact = model(x), double(model)(x.double())
        report = fuse(model)
        assert fused_calls(lambda: model(x)) == stretches == len(report.replaced), str(report)
        assert_as_exact(model(x), original, exact)
        report.undo()
        assert leftovers(model) == []
        assert torch.equal(model(x), original)
    return fuse(model)


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.SiLU(), "silu"),
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Identity(), "identity"),
    ],
)
def test_activations(activation: nn.Module, name: str) -> None:
    model = nn.Sequential(nn.Linear(12, 40), activation, nn.Linear(40, 7, bias=False))
    report = _check(model, torch.randn(5, 12), 1)
    assert report.replaced[0].spec == f"{name}:12x40->7+bias_up,fp32"
    assert report.replaced[0].path == "[0..2]"


def test_a_stretch_of_a_longer_sequential() -> None:
    model = nn.Sequential(
        nn.LayerNorm(12), nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 12), nn.Tanh(), nn.LayerNorm(12)
    )
    report = _check(model, torch.randn(2, 5, 12), 1)
    assert report.replaced[0].path == "[1..3]"


def test_named_children_and_nesting() -> None:
    inner = nn.Sequential()
    for name, module in (("up", nn.Linear(12, 40)), ("act", nn.SiLU()), ("down", nn.Linear(40, 12))):
        inner.add_module(name, module)
    report = _check(nn.Sequential(nn.LayerNorm(12), inner), torch.randn(3, 12), 1)
    assert report.replaced[0].path == "1[up..down]"


def test_three_linears_are_paired_from_the_front() -> None:
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 3))
    report = _check(model, torch.randn(4, 12), 1)
    assert [entry.path for entry in report.replaced] == ["[0..2]"]
    assert [entry.path for entry in report.skipped] == ["4"]
    assert "paired from the front" in report.skipped[0].reason
    assert "paired from the front" in str(report)


def test_four_linears_are_two_pairs() -> None:
    widths = [12, 40, 16, 24, 5]
    layers = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.GELU())][:-1]
    report = _check(nn.Sequential(*layers), torch.randn(4, 12), 2)
    assert [entry.path for entry in report.replaced] == ["[0..2]", "[4..6]"]
    assert report.skipped == []


@pytest.mark.parametrize("position", [1, 2, 3])
def test_dropout(position: int) -> None:
    layers = [nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 12)]
    layers.insert(position, nn.Dropout(0.5))
    model = nn.Sequential(*layers)
    x = torch.randn(4, 12)
    _check(model, x, 1)
    model.train()
    assert fused_calls(lambda: model(x)) == (1 if position == 3 else 0)
    torch.manual_seed(0)
    first = model(x)
    assert not torch.equal(model(x), first)  # the dropout is active
    model[position].p = 0.0
    assert fused_calls(lambda: model(x)) == 1


def test_what_stands_in_the_way_is_named() -> None:
    cases = {
        "nn.modules.normalization.LayerNorm": [
            nn.Linear(12, 40),
            nn.LayerNorm(40),
            nn.GELU(),
            nn.Linear(40, 12),
        ],
        "nn.modules.activation.Mish": [nn.Linear(12, 40), nn.Mish(), nn.Linear(40, 12)],
        "no activation": [nn.Linear(12, 40), nn.Linear(40, 12)],
        "two activations": [nn.Linear(12, 40), nn.ReLU(), nn.SiLU(), nn.Linear(40, 12)],
        "do not fit": [nn.Linear(12, 40), nn.ReLU(), nn.Linear(41, 12)],
    }
    for reason, layers in cases.items():
        report = fuse(nn.Sequential(*layers))
        assert report.replaced == []
        assert reason in report.skipped[0].reason, str(report)


def test_a_later_pair_is_found_behind_an_unknown_activation() -> None:
    layers = [nn.Linear(12, 40), nn.Mish(), nn.Linear(40, 16), nn.GELU(), nn.Linear(16, 12)]
    report = _check(nn.Sequential(*layers), torch.randn(4, 12), 1)
    assert [entry.path for entry in report.replaced] == ["[2..4]"]


def test_a_sequential_changed_later_runs_as_it_is_then() -> None:
    model = nn.Sequential(nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 12))
    plain = copy.deepcopy(model)
    fuse(model)
    x = torch.randn(4, 12)
    for module in (model, plain):
        module.append(nn.Tanh())
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))
        for module in (model, plain):
            module[1] = nn.Softplus()
        assert torch.equal(model(x), plain(x))


def test_slices_and_iteration_still_work() -> None:
    model = nn.Sequential(nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 12))
    fuse(model)
    assert len(model) == 3 and [type(m) for m in model] == [nn.Linear, nn.GELU, nn.Linear]
    x = torch.randn(4, 12)
    with torch.no_grad():
        assert torch.equal(model[:2](x), nn.functional.gelu(model[0](x)))


def test_a_subclass_with_its_own_forward_is_read_for_what_it_does() -> None:
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    model = Residual(nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 12))
    report = _check(model, torch.randn(4, 12), 1)
    assert report.replaced[0].cls.endswith("Residual")
