"""A fused module is still the module it was: copies, files, training, hooks, compilation."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import fuse_models
from fuse_helpers import Gated, Mlp, assert_as_exact, double, fused_calls
from fusedmlp.fuse import fuse, unfuse
from fusedmlp.modules import FusedMLP, packed_bytes

KINDS = ["bert", "llama", "opt", "mpnet"]


def _torch_save(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), _torch_save],
    ids=["deepcopy", "pickle", "save"],
)
@pytest.mark.parametrize("name", KINDS)
def test_copies_stay_fused(name: str, copied) -> None:
    case = fuse_models.make(name)
    fuse(case.model)
    expected = fuse_models.output(case.model, case.inputs)
    other = copied(case.model)
    assert [type(m) for m in other.modules()] == [type(m) for m in case.model.modules()]
    assert packed_bytes(other) == 0  # packed again at the first call
    assert torch.equal(fuse_models.output(other, case.inputs), expected)
    assert fused_calls(lambda: fuse_models.output(other, case.inputs)) == case.count
    assert list(other.state_dict()) == list(case.model.state_dict())
    assert unfuse(other) == case.count
    assert fused_calls(lambda: fuse_models.output(case.model, case.inputs)) == case.count


def test_a_copy_of_a_sequential() -> None:
    model = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 8))
    fuse(model)
    x = torch.randn(3, 8)
    with torch.no_grad():
        for other in (copy.deepcopy(model), _torch_save(model)):
            assert torch.equal(other(x), model(x))
            assert fused_calls(lambda: other(x)) == 1


@pytest.mark.parametrize("name", KINDS)
def test_buffers_are_those_of_the_plain_model(name: str) -> None:
    case = fuse_models.make(name)
    before = [(name, buffer.shape) for name, buffer in case.model.named_buffers()]
    fuse(case.model)
    fuse_models.output(case.model, case.inputs)
    assert packed_bytes(case.model) > 0
    assert [(name, buffer.shape) for name, buffer in case.model.named_buffers()] == before


def test_averaged_weights() -> None:
    """torch.optim.swa_utils goes over the buffers of two models in step."""
    model = nn.Sequential(Mlp(), nn.BatchNorm1d(24))
    plain = copy.deepcopy(model)
    fuse(model)
    x = torch.randn(3, 24)
    averages = []
    for module in (plain, model):
        average = torch.optim.swa_utils.AveragedModel(module)
        steps = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(3):
            module(x).square().mean().backward()
            steps.step()
            average.update_parameters(module)
            with torch.no_grad():  # the copies of both are made in between
                module(x), average.eval()(x)
        averages.append(average)
    with torch.no_grad():
        torch.testing.assert_close(averages[1](x), averages[0](x), rtol=1e-3, atol=1e-3)
        assert fused_calls(lambda: averages[1](x)) == 1


def test_state_dict_goes_between_fused_and_plain() -> None:
    source, target = fuse_models.make("bert", seed=1), fuse_models.make("bert", seed=2)
    fuse(target.model)
    fuse_models.output(target.model, target.inputs)  # packed copies of the old weights exist now
    target.model.load_state_dict(source.model.state_dict())
    exact = fuse_models.output(double(source.model), source.inputs)
    original = fuse_models.output(source.model, source.inputs)
    assert_as_exact(fuse_models.output(target.model, target.inputs), original, exact)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_step_is_seen(optimizer) -> None:
    torch.manual_seed(0)
    model = Gated()
    plain = copy.deepcopy(model)
    fuse(model)
    x = torch.randn(4, 24)
    with torch.no_grad():
        model(x)
    for module in (model, plain):
        steps = optimizer(module.parameters(), lr=0.1)
        module(x).square().sum().backward()
        steps.step()
    exact = double(plain)(x.double()).detach()
    with torch.no_grad():
        # The steps differ by the rounding of the gradients; Adam's first step is lr * sign(gradient).
        torch.testing.assert_close(model(x), plain(x), rtol=1e-3, atol=1e-3)
        stale = (model(x).double() - exact).norm() / exact.norm()
    assert stale < 1e-3


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "phi3", "opt", "t5", "t5-gated", "mpnet"])
def test_training_gradients(name: str) -> None:
    case = fuse_models.make(name)
    plain = copy.deepcopy(case.model)
    fuse(case.model)
    exact = double(plain)
    results = []
    for model in (plain, case.model, exact):
        model.eval()  # dropout inactive; gradients as in training
        model(**case.inputs)[0].square().mean().backward()
        results.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert list(results[0]) == list(results[1])
    for key in results[0]:
        original, fused, truth = (result[key] for result in results)
        error = float((fused.double() - truth).norm())
        allowed = 2 * float((original.double() - truth).norm()) + torch.finfo(torch.float32).eps * float(
            truth.norm()
        )
        # A gradient that is zero up to rounding has no relative error of its own.
        scale = max(float(g.norm()) for g in results[2].values())
        assert error <= allowed + torch.finfo(torch.float32).eps * scale, key


@pytest.mark.parametrize("name", ["mlp", "gated", "layer", "bert", "opt", "sequential"])
def test_training_is_what_it_was(name: str) -> None:
    """The same bits, the same memory kept for the backward pass: the module's own operations run."""
    module = _compiled_cases()[name].eval()
    plain = copy.deepcopy(module)
    x = torch.randn(2, 3, 48 if name in ("bert", "opt") else 24)
    fuse(module)
    for needs in ("weights", "input"):
        results = []
        for model in (plain, module):
            model.requires_grad_(needs == "weights")
            given = x.clone().requires_grad_(needs == "input")
            saved: list[tuple] = []

            def keep(tensor, saved=saved):
                saved.append(tuple(tensor.shape))
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                y = model(given)
            y = y[0] if isinstance(y, tuple) else y
            y.square().sum().backward()
            gradients = [t.grad for t in (given, *model.parameters()) if t.grad is not None]
            results.append(([y, *gradients], saved))
            model.zero_grad()
        assert results[0][1] == results[1][1]
        assert all(torch.equal(a, b) for a, b in zip(results[0][0], results[1][0], strict=True))
    module.requires_grad_(False)
    assert fused_calls(lambda: module(x)) == 1


def test_active_dropout_between_the_linears_runs_the_module_itself() -> None:
    case = fuse_models.make("t5")
    fuse(case.model)
    case.model.train()
    assert fused_calls(lambda: case.model(**case.inputs)) == 0
    case.model.eval()
    assert fused_calls(lambda: fuse_models.output(case.model, case.inputs)) == case.count


def test_dropout_after_the_mlp_stays_active_in_training() -> None:
    case = fuse_models.make("gpt2")
    plain = copy.deepcopy(case.model).train()
    fuse(case.model)
    case.model.train()
    outputs = []
    for model in (plain, case.model):
        torch.manual_seed(7)
        outputs.append(model(**case.inputs)[0].detach())
    assert fused_calls(lambda: case.model(**case.inputs)) == case.count
    # The same masks, drawn in the same order: a different mask would change the result in its first digits.
    assert float((outputs[0] - outputs[1]).norm() / outputs[0].norm()) < 1e-4
    torch.manual_seed(8)
    assert not torch.equal(case.model(**case.inputs)[0], outputs[1])


def test_a_hook_on_the_module_fires() -> None:
    model = Mlp()
    fuse(model)
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model(torch.randn(3, 24))
    assert seen == [(3, 24)]


def test_a_later_hook_on_a_child_fires_too() -> None:
    model = Mlp()
    fuse(model)
    x = torch.randn(3, 24)
    seen = []
    handle = model.first.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    assert fused_calls(lambda: model(x)) == 0
    assert seen == [(3, 56)]
    handle.remove()
    assert fused_calls(lambda: model(x)) == 1


def test_a_later_hook_inside_a_bert_layer_fires() -> None:
    case = fuse_models.make("bert")
    fuse(case.model)
    seen = []
    case.model.encoder.layer[0].output.register_forward_hook(lambda module, args, output: seen.append(1))
    assert fused_calls(lambda: fuse_models.output(case.model, case.inputs)) == 1
    assert seen


def _global(what: str):
    return getattr(nn.modules.module, f"register_module_{what}_hook")


@pytest.mark.parametrize("what", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
@pytest.mark.parametrize("name", ["mlp", "sequential", "layer", "bert", "FusedMLP"])
def test_hooks_for_all_modules_fire(name: str, what: str) -> None:
    if name == "FusedMLP":
        model, width = FusedMLP(24, 56, gated=True), 24
    else:
        model, width = _compiled_cases()[name], 48 if name == "bert" else 24
    if name != "FusedMLP":
        fuse(model)
    x = torch.randn(2, 3, width, requires_grad=True)
    model(x)  # packed copies are there
    seen = []
    handle = _global(what)(lambda module, *_: seen.append(module))
    try:
        y = model(x)
        (y[0] if isinstance(y, tuple) else y).sum().backward()
    finally:
        handle.remove()
    # Never called: a dropout in BERT's attention, the last Linear of nn.MultiheadAttention.
    uncalled = {"layer": 1, "bert": 1}.get(name, 0)
    assert len(seen) == len(set(seen)) == len(list(model.modules())) - uncalled
    if name != "FusedMLP":
        with torch.no_grad():
            assert fused_calls(lambda: model(x)) == 1


@pytest.mark.parametrize("what", ["forward", "full_backward"])
def test_with_hooks_for_all_modules_nothing_is_fused(what: str) -> None:
    handle = _global(what)(lambda *_: None)
    try:
        assert "hooks for all modules" in fuse(Mlp()).skipped[0].reason
    finally:
        handle.remove()


def test_a_child_replaced_later_is_used() -> None:
    model = Mlp()
    fuse(model)
    x = torch.randn(3, 24)
    model.activation = nn.ReLU()
    with torch.no_grad():
        assert torch.equal(model(x), model.second(torch.relu(model.first(x))))
        model.second = nn.Sequential(nn.Linear(56, 24), nn.Tanh())
        assert float(model(x).abs().max()) <= 1.0


def test_float64_and_wrong_widths_go_to_the_module_itself() -> None:
    model = Mlp()
    fuse(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.randn(3, 23))
    with pytest.raises(RuntimeError, match="dtype"):
        model(torch.randn(3, 24, dtype=torch.float64))
    model.double()
    x = torch.randn(3, 24, dtype=torch.float64)
    assert fused_calls(lambda: model(x)) == 0
    assert model(x).dtype == torch.float64


def test_keyword_arguments() -> None:
    model = Mlp()
    fuse(model)
    x = torch.randn(3, 24)
    assert fused_calls(lambda: model(x=x)) == 1
    assert torch.equal(model(x=x), model(x))


def test_autocast() -> None:
    model = Mlp()
    plain = copy.deepcopy(model)
    fuse(model)
    x = torch.randn(3, 24)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fused, original = model(x), plain(x)
        assert fused_calls(lambda: model(x)) == 1
    assert_as_exact(fused, original, double(plain)(x.double()))


def test_moving_and_casting() -> None:
    case = fuse_models.make("llama")
    fuse(case.model)
    model = case.model.bfloat16()
    assert packed_bytes(model) == 0
    plain = copy.deepcopy(model)
    unfuse(plain)
    exact = fuse_models.output(double(plain), case.inputs)
    assert fused_calls(lambda: fuse_models.output(model, case.inputs)) == case.count
    assert_as_exact(fuse_models.output(model, case.inputs), fuse_models.output(plain, case.inputs), exact)


def test_one_module_used_twice() -> None:
    shared = Mlp()
    model = nn.ModuleDict({"a": shared, "b": shared})
    report = fuse(model)
    assert [(e.path, e.also) for e in report.replaced] == [("a", ("b",))]
    assert "the same module as b" in str(report)
    report.undo()
    assert type(shared) is Mlp


def test_tied_weights_are_followed_in_both_modules() -> None:
    model = nn.ModuleList([Mlp(), Mlp()])
    model[1].first.weight = model[0].first.weight
    fuse(model)
    x = torch.randn(3, 24)
    with torch.no_grad():
        before = [mlp(x) for mlp in model]
        model[0].first.weight.zero_()
        after = [mlp(x) for mlp in model]
    assert not any(torch.equal(a, b) for a, b in zip(before, after))


class _Layer(nn.Module):
    """An MLP inside a larger forward, as OPT and Whisper have it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24)
        self.mix = nn.MultiheadAttention(24, 2)
        self.fc1, self.fc2 = nn.Linear(24, 56), nn.Linear(56, 24)
        self.activation_fn = nn.ReLU()

    def forward(self, x):
        x = x + self.mix(x, x, x)[0]
        hidden = self.activation_fn(self.fc1(self.norm(x)))
        return x + self.fc2(hidden)


def _compiled_cases():
    bert = fuse_models.make("bert").model.encoder.layer[0]
    opt = fuse_models.make("opt").model.model.decoder.layers[0]
    sequential = nn.Sequential(nn.Linear(24, 56), nn.GELU(), nn.Linear(56, 24), nn.Tanh())
    return {
        "mlp": Mlp(),
        "gated": Gated(),
        "layer": _Layer(),
        "bert": bert,
        "opt": opt,
        "sequential": sequential,
    }


@pytest.mark.parametrize("name", ["mlp", "gated", "layer", "bert", "opt", "sequential"])
def test_compile_fullgraph(name: str) -> None:
    torch._dynamo.reset()
    module = _compiled_cases()[name].eval()
    x = torch.randn(2, 3, 48 if name in ("bert", "opt") else 24)
    assert len(fuse(module).replaced) == 1
    with torch.no_grad():
        expected = module(x)
        result = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    first = [value[0] if isinstance(value, tuple) else value for value in (expected, result)]
    torch.testing.assert_close(first[1], first[0], rtol=1e-5, atol=1e-5)


def test_compiled_code_contains_the_operator() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph.forward

    module = _Layer().eval()
    fuse(module)
    with torch.no_grad():
        torch.compile(module, fullgraph=True, backend=backend)(torch.randn(2, 3, 24))
    assert len(graphs) == 1 and "fusedmlp.mlp" in graphs[0]


def test_export() -> None:
    module = Mlp().eval()
    fuse(module)
    x = torch.randn(3, 24)
    program = torch.export.export(module, (x,))
    assert "fusedmlp.mlp" in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), module(x))


def test_a_class_derived_from_the_fused_one_survives_undo() -> None:
    """FSDP swaps the class of a module too, for one derived from what it finds."""
    model = Mlp()
    report = fuse(model)
    derived = type("Wrapped", (type(model),), {})
    model.__class__ = derived
    x = torch.randn(3, 24)
    with torch.no_grad():
        assert fused_calls(lambda: model(x)) == 1
        report.undo()
        assert type(model) is derived
        assert fused_calls(lambda: model(x)) == 0
        torch.testing.assert_close(model(x), model.second(model.activation(model.first(x))), rtol=0, atol=0)


def test_jit_trace_records_the_modules_own_operators() -> None:
    model = Mlp().eval()
    fuse(model)
    x = torch.randn(3, 24)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        assert "fusedmlp::" not in str(traced.inlined_graph) and "aten::gelu" in str(traced.inlined_graph)
        torch.testing.assert_close(traced(x), model(x))


def test_vmap_and_functional_call() -> None:
    model = Mlp().eval()
    fuse(model)
    x = torch.randn(4, 3, 24)
    other = {name: p.detach() * 0.5 for name, p in model.named_parameters()}
    plain = Mlp().eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(model)(x), model(x))
        expected = torch.func.functional_call(plain, other, (x,))
        torch.testing.assert_close(torch.func.functional_call(model, other, (x,)), expected)
