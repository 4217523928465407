"""torch.compile, torch.export and torch.jit.trace see one operator, with symbolic token counts."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from mlp_reference import GATES, make
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

import fusedmlp
from fusedmlp.modules import packed_bytes

MLP, OWNED = torch.ops.fusedmlp.mlp.default, torch.ops.fusedmlp.mlp_owned.default


def operators(counter):
    """The fusedmlp operators of all graphs that were compiled."""
    calls = (n.target for graph in counter.graphs for n in graph.graph.nodes if n.op == "call_function")
    return [target for target in calls if target in (MLP, OWNED)]


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
            torch.testing.assert_close(compiled(x), eager(model, x))
            assert packed_bytes(model) > 0
            model(x)
    assert operators(counter) == [OWNED]


def eager(model, x):
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
    assert operators(counter) == []


def _to(module):
    return module.to(torch.bfloat16).float()


def _load(module):
    module.load_state_dict(fusedmlp.FusedMLP(16, 24).state_dict())
    return module


def _add(module):
    with torch.no_grad():
        module.up_proj.weight.add_(1)
    return module


def _replace(module):
    module.up_proj.weight = nn.Parameter(torch.randn(24, 16))
    return module


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_graph_makes_and_renews_the_packed_copy(backend):
    """Whatever was done to the module, the second call of the graph runs from a fresh copy."""
    module = fusedmlp.FusedMLP(16, 24)
    graph = torch.compile(module, backend=backend)
    changes = [lambda m: m, _to, _load, _add, _replace, lambda m: fusedmlp.invalidate(m) or m]
    if backend == "aot_eager":
        changes += [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
    x = torch.randn(3, 16)
    for change in changes:
        module = change(module)
        if change in changes[6:]:
            graph = torch.compile(module, backend=backend)
        with torch.no_grad():
            hidden = nn.functional.gelu(module.up_proj(x))
            for _ in range(2):
                torch.testing.assert_close(graph(x), module.down_proj(hidden), rtol=2e-4, atol=2e-5)
            pack = module._fusedmlp_packs["mlp"]
            assert not pack.stale.value and pack.tensors[1] is module.up_proj.weight
            assert torch.equal(graph(x), module(x)) and module._fusedmlp_packs["mlp"] is pack


def test_layers_that_are_alike_share_a_graph_and_not_a_copy():
    layers = [fusedmlp.FusedMLP(16, 24) for _ in range(3)]
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(lambda module, x: module(x), fullgraph=True, backend=counter)
    x = torch.randn(3, 16)
    with torch.no_grad():
        for module in layers:
            for _ in range(2):
                expected = module.down_proj(nn.functional.gelu(module.up_proj(x)))
                torch.testing.assert_close(run(module, x), expected, rtol=2e-4, atol=2e-5)
        assert counter.frame_count == 1
        assert len({module._fusedmlp_packs["mlp"].handle for module in layers}) == 3


def test_a_graph_keeps_to_the_bound_of_packed_copies():
    module = fusedmlp.FusedMLP(16, 24)
    module._fusedmlp_pack = False
    with torch.no_grad():
        torch.compile(module, backend="aot_eager")(torch.randn(3, 16))
    assert packed_bytes(module) == 0


def test_a_graph_keeps_no_owner_alive():
    module, x = fusedmlp.FusedMLP(16, 24), torch.randn(3, 16)
    tensors = [None, module.up_proj.weight, module.down_proj.weight, None, module.up_proj.bias]
    name = module._fusedmlp_name_mlp
    arguments = [x, name, *tensors, module.down_proj.bias, *module.form.arguments]
    with torch.no_grad():
        expected = module(x)
        assert torch.equal(torch.ops.fusedmlp.mlp_owned(*arguments), expected)
        known = weakref.ref(module)
        del module
        gc.collect()
        assert known() is None
        torch.testing.assert_close(torch.ops.fusedmlp.mlp_owned(*arguments), expected)
    torch.library.opcheck(OWNED, tuple(a.detach() if isinstance(a, nn.Parameter) else a for a in arguments))


def test_inductor():
    model, x = Model(), torch.randn(5, 16)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        model.mlp.up_proj.weight.add_(1)  # the operator sees that the copy is stale
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
    assert MLP in calls and OWNED not in calls
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
