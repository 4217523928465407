"""torch.compile, torch.export and torch.jit.trace see one operator, with symbolic token counts."""

from __future__ import annotations

import io

import pytest
import torch
from mlp_reference import GATES, make
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

import fusedmlp
from fusedmlp.modules import packed_bytes

MLP, PACKED = torch.ops.fusedmlp.mlp.default, torch.ops.fusedmlp.mlp_packed.default


def operators(counter):
    """The fusedmlp operators of all graphs that were compiled."""
    calls = (n.target for graph in counter.graphs for n in graph.graph.nodes if n.op == "call_function")
    return [target for target in calls if target in (MLP, PACKED)]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.mlp = fusedmlp.FusedMLP(16, 24, activation="silu", gated=True)

    def forward(self, x):
        return x + self.mlp(self.norm(x))


@pytest.mark.parametrize("packed", [False, True])
def test_one_graph_for_every_token_count(packed):
    model = Model()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        if packed:
            model(torch.randn(2, 16))
        for tokens in (2, 3, 17, 64):
            x = torch.randn(tokens, 16)
            torch.testing.assert_close(compiled(x), model(x) if packed else eager(model, x))
    assert operators(counter) == [PACKED if packed else MLP]


def eager(model, x):
    """Without making a packed copy, which would be a reason to compile again."""
    mlp, h = model.mlp, model.norm(x)
    return x + mlp.down_proj(nn.functional.silu(mlp.gate_proj(h)) * mlp.up_proj(h))


def test_training_through_a_compiled_graph():
    model, x = Model(), torch.randn(5, 16)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    for tokens in (5, 6, 9):
        x = torch.randn(tokens, 16)
        ours = torch.autograd.grad(compiled(x).square().sum(), list(model.parameters()))
        theirs = torch.autograd.grad(eager(model, x).square().sum(), list(model.parameters()))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert operators(counter) == [MLP]


def test_inductor():
    model, x = Model(), torch.randn(5, 16)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        model.mlp.up_proj.weight.add_(1)  # the graph keeps the copy; the operator sees that it is stale
        torch.testing.assert_close(compiled(x), eager(model, x))
    gradient = torch.autograd.grad(compiled(x).square().sum(), model.mlp.down_proj.weight)
    torch.testing.assert_close(
        gradient,
        torch.autograd.grad(eager(model, x).square().sum(), model.mlp.down_proj.weight),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_inside_a_graph(dtype):
    model, x = fusedmlp.FusedMLP(16, 24), torch.randn(4, 16)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def run(x):
        with torch.autocast("cpu", dtype):
            return model(x)

    with torch.no_grad():
        for _ in range(2):
            y = run(x)
            assert y.dtype is dtype
            with torch.autocast("cpu", dtype):
                torch.testing.assert_close(y, model(x))
            fusedmlp.invalidate(model)
            model(x)  # a float32 copy, of no use in the region


@pytest.mark.parametrize("gate", GATES)
def test_the_function_compiles(gate):
    mlp = make("gelu", gate)

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def run(x):
        return fusedmlp.mlp(x.relu(), mlp.w_up, mlp.w_down, **mlp.keywords)

    for tokens in (3, 8):
        x = torch.randn(tokens, 17)
        torch.testing.assert_close(run(x), mlp.layers(x.relu()))
    with pytest.raises(Exception, match="x: shape must be"):
        run(torch.randn(3, 16))


def test_transforms_inside_a_graph():
    model = fusedmlp.FusedMLP(16, 24)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    x = torch.randn(4, 16)
    with torch.no_grad():
        model(x)

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).sin().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    compiled = torch.compile(per_sample, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(parameters, x), per_sample(parameters, x))


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_dynamic_tokens(strict):
    model = Model()
    with torch.no_grad():
        model(torch.randn(2, 16))
    assert packed_bytes(model) > 0
    tokens = torch.export.Dim("tokens", min=1, max=4096)
    program = torch.export.export(model, (torch.randn(4, 16),), dynamic_shapes=({0: tokens},), strict=strict)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert MLP in calls and PACKED not in calls
    stream = io.BytesIO()
    torch.export.save(program, stream)
    stream.seek(0)
    loaded = torch.export.load(stream).module()
    for count in (1, 5, 64):
        x = torch.randn(count, 16)
        torch.testing.assert_close(loaded(x), eager(model, x))
    assert not any("fusedmlp" in name for name in program.state_dict)


def test_jit_trace():
    model, x = Model(), torch.randn(4, 16)
    with torch.no_grad():
        traced = torch.jit.trace(model, (x,))
        other = torch.randn(9, 16)
        torch.testing.assert_close(traced(other), eager(model, other))


def test_fake_tensors_need_no_kernel():
    with FakeTensorMode():
        model = fusedmlp.FusedMLP(1 << 14, 1 << 16, 8)
        with torch.no_grad():
            assert model(torch.randn(2, 3, 1 << 14)).shape == (2, 3, 8)
    with torch.device("meta"):
        assert fusedmlp.FusedMLP(8, 16, 5)(torch.randn(4, 8)).shape == (4, 5)
