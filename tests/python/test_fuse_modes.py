"""Contexts inside a forward (no_grad, inference_mode, autocast) are not lost when its MLP is fused."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fuse_helpers import Mlp, fused_calls, leftovers
from fusedmlp.fuse import fuse


class _Plain(Mlp):
    def __init__(self) -> None:
        super().__init__()
        del self.activation  # as a function it can not be replaced by name, so there is no second way to fuse

    def forward(self, x):
        return self.second(F.gelu(self.first(x)))


class _Contexts:
    class WholeWith(_Plain):
        def forward(self, x):
            with torch.no_grad():
                return self.second(F.gelu(self.first(x)))

    class WholeDecorated(_Plain):
        forward = torch.no_grad()(_Plain.forward)

    class FirstLinear(_Plain):
        def forward(self, x):
            with torch.no_grad():
                hidden = self.first(x)
            return self.second(F.gelu(hidden))

    class Activation(_Plain):
        def forward(self, x):
            return self.second(torch.no_grad()(F.gelu)(self.first(x)))

    class Set(_Plain):
        def forward(self, x):
            before = torch.is_grad_enabled()
            torch.set_grad_enabled(False)
            y = self.second(F.gelu(self.first(x)))
            torch.set_grad_enabled(before)
            return y

    class GradAlways(_Plain):
        forward = torch.enable_grad()(_Plain.forward)

    class Inference(_Plain):
        forward = torch.inference_mode()(_Plain.forward)

    class NoInference(_Plain):
        forward = torch.inference_mode(False)(_Plain.forward)

    class AutocastOff(_Plain):
        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                return self.second(F.gelu(self.first(x)))

    class AutocastOffDecorated(_Plain):
        forward = torch.autocast("cpu", enabled=False)(_Plain.forward)

    class AutocastOffSecond(_Plain):
        def forward(self, x):
            hidden = F.gelu(self.first(x))
            with torch.autocast("cpu", enabled=False):
                return self.second(hidden.float())

    class CudaAutocastOff(_Plain):
        forward = torch.autocast("cuda", enabled=False)(_Plain.forward)

    class AutocastOn(_Plain):
        forward = torch.autocast("cpu", dtype=torch.bfloat16)(_Plain.forward)

    class CustomForward(_Plain):
        forward = torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)(_Plain.forward)

    class Asks(_Plain):
        def forward(self, x):
            y = self.second(F.gelu(self.first(x)))
            return torch.relu(y) if torch.is_autocast_enabled("cpu") else y

    class AsksGrad(_Plain):
        def forward(self, x):
            return self.second((F.gelu if torch.is_grad_enabled() else F.relu)(self.first(x)))


def _assert_same(model: nn.Module, plain: nn.Module) -> None:
    """Values, dtypes and what gets gradients, under every mode."""
    x = torch.randn(3, 24)
    for region in (False, True):
        for grad in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with grad(), torch.autocast("cpu", torch.bfloat16, enabled=region):
                ours, theirs = model(x), plain(x)
            for what in ("dtype", "requires_grad"):
                assert getattr(ours, what) == getattr(theirs, what)
            assert ours.is_inference() == theirs.is_inference()
            torch.testing.assert_close(
                ours, theirs, rtol=1e-5 if ours.dtype is torch.float32 else 0.02, atol=1e-2
            )
            if ours.requires_grad:
                for module in (model, plain):
                    module.zero_grad(), module(x).sum().backward()
                for (name, a), b in zip(model.named_parameters(), plain.parameters()):
                    assert (a.grad is None) == (b.grad is None), name


@pytest.mark.parametrize("name", [name for name in vars(_Contexts) if not name.startswith("_")])
def test_an_mlp_with_a_context_inside_is_left_alone(name: str) -> None:
    model = getattr(_Contexts, name)()
    plain = copy.deepcopy(model)
    with torch.inference_mode(name == "GradAlways"):  # whatever fuse() itself is called under
        report = fuse(model)
    assert report.replaced == [] and leftovers(model) == []
    assert re.search("changes|autocast|not known", report.skipped[0].reason), report.skipped[0].reason
    _assert_same(model, plain)


def test_the_reason_names_the_mode() -> None:
    reasons = [fuse(getattr(_Contexts, name)()).skipped[0].reason for name in ("WholeWith", "AutocastOff")]
    assert reasons == [
        f"its forward changes {mode}, which a fused call would not" for mode in ("grad mode", "autocast")
    ]


def test_a_mode_that_stays_changed_is_found() -> None:
    class Leaves(_Plain):
        def forward(self, x):
            y = self.second(F.gelu(self.first(x)))
            torch.set_grad_enabled(not torch.is_grad_enabled())
            return y

    reason = fuse(Leaves()).skipped[0].reason
    assert reason == "its forward changes grad mode and leaves it so" and torch.is_grad_enabled()


class _Half(nn.Module):
    def __init__(self, d_in: int, d_out: int, rest: nn.Module) -> None:
        super().__init__()
        self.linear, self.rest = nn.Linear(d_in, d_out), rest

    def forward(self, x):
        return self.rest(self.linear(x))


class _Layers:
    """Larger forwards: these run as they are, so contexts around a whole MLP do no harm, within it they do."""

    class Around(Mlp):
        @torch.no_grad()
        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                return x.float() + torch.tanh(self.second(self.activation(self.first(x.float()))))

    class Elsewhere(Mlp):
        def forward(self, x):
            with torch.no_grad():
                scale = x.tanh()
            return scale + torch.tanh(self.second(self.activation(self.first(x))))

    class Within(Mlp):
        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                hidden = self.first(x.float())
            return torch.tanh(self.second(self.activation(hidden)))

    class WithinGrad(Mlp):
        def forward(self, x):
            with torch.no_grad():
                hidden = self.first(x)
            return torch.tanh(self.second(self.activation(hidden)))


@pytest.mark.parametrize("name, fused", [("Around", 1), ("Elsewhere", 1), ("Within", 0), ("WithinGrad", 0)])
def test_contexts_in_a_larger_forward(name: str, fused: int) -> None:
    model = getattr(_Layers, name)()
    plain = copy.deepcopy(model)
    assert len(fuse(model).replaced) == fused
    with torch.no_grad():
        assert fused_calls(lambda: model(torch.randn(3, 24))) == fused
    _assert_same(model, plain)


@pytest.mark.parametrize("half", ["none", "first", "second", "between"])
def test_contexts_in_halves(half: str) -> None:
    class Quiet(_Half):
        forward = torch.no_grad()(_Half.forward)

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = (Quiet if half == "first" else _Half)(24, 56, nn.GELU())
            self.down = (Quiet if half == "second" else _Half)(56, 24, nn.LayerNorm(24))
            self.before, self.after = _Half(24, 24, nn.Tanh()), _Half(24, 24, nn.Tanh())

        def forward(self, x):
            with torch.set_grad_enabled(torch.is_grad_enabled() and half != "between"):
                hidden = self.up(self.before(x))
            return self.after(self.down(hidden))

    model = Pair()
    plain = copy.deepcopy(model)
    assert len(fuse(model).replaced) == (half == "none")
    _assert_same(model, plain)
