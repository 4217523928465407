"""A packed copy must never outlive the weights it was made from."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from mlp_reference import make
from torch import nn

import fusedmlp
from fusedmlp import modules
from fusedmlp.modules import packed_bytes, packed_copies

ops = torch.ops.fusedmlp


@pytest.fixture
def module():
    made = fusedmlp.FusedMLP(16, 24, gated=True)
    check(made)
    assert packed_bytes(made) > 0
    return made


@pytest.fixture(autouse=True)
def _one_thread(_fresh_state):
    torch.set_num_threads(1)


def check(module):
    """The module computes what its weights say now: with the copy it has, then with the one it makes."""
    x = torch.randn(3, 16).to(module.up_proj.weight.dtype)
    with torch.no_grad():
        hidden = nn.functional.gelu(module.gate_proj(x)) * module.up_proj(x)
        for _ in range(3):
            torch.testing.assert_close(module(x), module.down_proj(hidden), rtol=2e-4, atol=2e-5)


def copy_of(module):
    (copy,) = packed_copies(module)
    return copy


def train_step(module, optimizer):
    module(torch.randn(8, 16)).square().mean().backward()
    optimizer.step()


class WritesThroughData(torch.optim.Optimizer):
    """As optimizers were written once: PyTorch does not count these writes."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(0.5)


def make_optimizer(kind, parameters):
    if kind == "data":
        return WritesThroughData(parameters)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=1.0)
    return torch.optim.AdamW(parameters, lr=0.5, foreach=kind == "foreach", fused=kind == "fused")


@pytest.mark.parametrize("kind", ["sgd", "foreach", "fused", "data"])
def test_an_optimizer_step_is_seen(module, kind):
    optimizer = make_optimizer(kind, module.parameters())
    for _ in range(3):
        before = module.up_proj.weight.detach().clone()
        train_step(module, optimizer)
        assert not torch.equal(before, module.up_proj.weight)
        check(module)


def test_an_optimizer_of_other_weights_changes_nothing(module):
    copy = copy_of(module)
    other = nn.Linear(4, 4)
    optimizer = WritesThroughData(other.parameters())
    optimizer.step()
    assert copy_of(module) is copy


def test_load_state_dict_is_seen(module):
    other = fusedmlp.FusedMLP(16, 24, gated=True)
    module.load_state_dict(other.state_dict())
    check(module)
    module.load_state_dict(fusedmlp.FusedMLP(16, 24, gated=True).state_dict(), assign=True)
    check(module)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_conversion_there_and_back_is_seen(module, dtype):
    module.to(dtype)
    assert packed_bytes(module) == 0
    module.float()
    check(module)


def test_an_in_place_write_is_seen(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-1.5)
            check(module)
            parameter[0] = 2.0
            check(module)
            nn.init.normal_(parameter)
            check(module)


def test_a_new_parameter_is_seen(module):
    module.up_proj.weight = nn.Parameter(torch.randn(24, 16))
    check(module)
    module.down_proj = nn.Linear(24, 16)
    check(module)
    module.up_proj.bias = None
    check(module)


def test_a_stale_copy_is_replaced_at_the_second_call(module):
    x, old = torch.randn(3, 16), copy_of(module)
    with torch.no_grad():
        module.up_proj.weight.add_(1)
        module(x)
        assert copy_of(module) is old
        module(x)
        new = copy_of(module)
        assert new is not old and new.numel() == old.numel()
        module(x)
        assert copy_of(module) is new


def test_data_replaced_twice_is_seen(module):
    """The second replacement may lie where the first weights were, with the same version."""
    for _ in range(20):
        module.up_proj.weight.data = torch.randn(24, 16)
        module.up_proj.weight.data = torch.randn(24, 16)
        check(module)


def test_freed_addresses_are_not_taken_for_the_old_weights(module):
    address = module.up_proj.weight.data_ptr()
    module.up_proj.weight = nn.Parameter(torch.randn(24, 16))
    held = [torch.randn(24, 16) for _ in range(50)]
    assert address not in {t.data_ptr() for t in held}  # the packed copy keeps its weights' memory
    check(module)


def test_the_old_weights_are_freed_with_the_copy(module):
    old = [weakref.ref(alias) for alias in module._fusedmlp_packs["mlp"].aliases]
    assert len(old) == 6
    module.up_proj.weight = nn.Parameter(torch.randn(24, 16))
    check(module)
    gc.collect()
    assert all(alias() is None for alias in old)


def test_a_transposed_square_weight_is_seen():
    module = fusedmlp.FusedMLP(16, 16, gated=True)
    check(module)
    module.up_proj.weight.data = module.up_proj.weight.data.t()  # same address, same version
    check(module)


def test_uncounted_writes_need_invalidate(module):
    x = torch.randn(2, 16)
    with torch.no_grad():
        before = module(x)
        module.up_proj.weight.data.add_(1)
        assert torch.equal(module(x), before)  # the documented limit
    fusedmlp.invalidate(module)
    check(module)


def test_inference_tensors_are_not_tracked():
    with torch.inference_mode():
        module = fusedmlp.FusedMLP(16, 24, gated=True)
        check(module)
        assert module.up_proj.weight.is_inference() and packed_bytes(module) > 0
        check(module)
        module.up_proj.weight.add_(1)
        fusedmlp.invalidate(module)
        check(module)


def test_a_copy_made_in_inference_mode_serves_outside():
    module = fusedmlp.FusedMLP(16, 24, gated=True)
    with torch.inference_mode():
        check(module)
    copy = copy_of(module)
    assert not copy.is_inference()
    check(module)
    assert copy_of(module) is copy
    train_step(module, torch.optim.SGD(module.parameters(), lr=1.0))
    check(module)


# ------------------------------------------------------------- the operator's own check, without Python


def changes():
    yield "add", lambda mlp: mlp.w_up.add_(1)
    yield "bias", lambda mlp: mlp.b_down.zero_()
    yield "slice", lambda mlp: mlp.w_down[0].fill_(3)
    yield "through a view", lambda mlp: mlp.w_up.view(-1)[:5].mul_(2)
    yield "new address", lambda mlp: setattr(mlp, "w_gate", mlp.w_gate + 1)
    yield "strides", lambda mlp: setattr(mlp, "w_up", mlp.w_up.t())
    yield "no bias", lambda mlp: setattr(mlp, "b_up", None)
    yield "activation", lambda mlp: setattr(mlp, "activation", "silu")


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in changes()])
def test_the_operator_recognises_a_stale_copy(change):
    mlp, x = make("gelu", "separate", (20, 20, 20)), torch.randn(3, 20)
    copy = ops.pack(*mlp.arguments)
    torch.testing.assert_close(ops.mlp_packed(x, copy, *mlp.arguments), mlp.layers(x))
    change(mlp)
    torch.testing.assert_close(ops.mlp_packed(x, copy, *mlp.arguments), mlp.layers(x))


def test_the_operator_uses_a_fresh_copy():
    """Without this the tests above could pass with an operator that never looks at the copy."""
    mlp, x = make("gelu", "separate"), torch.randn(3, 17)
    copy = ops.pack(*mlp.arguments)
    expected = ops.mlp_packed(x, copy, *mlp.arguments)
    mlp.w_up.data.add_(1)  # not counted: the copy still counts as fresh
    assert torch.equal(ops.mlp_packed(x, copy, *mlp.arguments), expected)
    # A copy of the copy is not at the address its header says.
    torch.testing.assert_close(ops.mlp_packed(x, copy.clone(), *mlp.arguments), mlp.layers(x))


def test_damaged_headers_are_stale():
    mlp, x = make("gelu", "none"), torch.randn(3, 17)
    for position in (0, 8, 12, 16, 24, 32, 40, 48, 64):
        copy = ops.pack(*mlp.arguments)
        copy[position] ^= 0x55
        copy[-1000:] = 0xFF  # a payload that no one may read
        torch.testing.assert_close(ops.mlp_packed(x, copy, *mlp.arguments), mlp.layers(x))


def test_a_dropped_owner_is_forgotten():
    module = fusedmlp.FusedMLP(16, 24, gated=True)
    check(module)
    assert module in modules._owners
    known = weakref.ref(module)
    del module
    gc.collect()
    assert known() is None


# -- the eager call that names weights and copy by a number ----------------------------------------------------


def prepared_calls(module, x):
    """How many of two calls went through the prepared operator."""
    calls = []
    original = modules._mlp_prepared_eager

    def counted(*args):
        calls.append(args)
        return original(*args)

    modules._mlp_prepared_eager = counted
    try:
        with torch.no_grad():
            module(x), module(x)
    finally:
        modules._mlp_prepared_eager = original
    return len(calls)


def test_eager_calls_without_gradients_are_prepared(module):
    x = torch.randn(3, 16)
    assert prepared_calls(module, x) == 2
    with torch.no_grad():
        module.up_proj.weight.add_(1.0)
    assert prepared_calls(module, x) == 0  # one sees the change, the next makes a new copy
    assert prepared_calls(module, x) == 2
    check(module)


def test_what_needs_the_weights_is_not_prepared(module):
    x = torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prepared_calls(module, x) == 0
    with torch.profiler.profile(record_shapes=True) as profiler:
        assert prepared_calls(module, x) == 0
    shapes = [e.input_shapes for e in profiler.events() if e.name == "fusedmlp::mlp_packed"]
    assert shapes and [24, 16] in shapes[0]
    assert prepared_calls(module, nn.Parameter(x, requires_grad=False)) == 0
    assert torch.vmap(module, randomness="error")(torch.randn(2, 3, 16)).shape == (2, 3, 16)


def test_memory_given_to_a_weight_behind_its_back_is_seen(module):
    x = torch.randn(3, 16)
    assert prepared_calls(module, x) == 2
    version = module.down_proj.weight._version
    module.down_proj.weight.data = torch.randn(16, 24)
    if module.down_proj.weight._version == version:  # nothing but the address tells
        assert prepared_calls(module, x) == 1
    check(module)


def test_prepared_errors_name_the_argument(module):
    with torch.no_grad():
        with pytest.raises(TypeError, match="x: dtype"):
            module(torch.randn(3, 16, dtype=torch.float64))
        with pytest.raises(ValueError, match="x: shape"):
            module(torch.randn(3, 17))
        with pytest.raises(RuntimeError, match="handle: names no prepared MLP: got -3"):
            ops._mlp_prepared(torch.randn(3, 16), -3)
    packed = copy_of(module)
    other = fusedmlp.FusedMLP(16, 24, gated=True)
    tensors = [other.gate_proj.weight, other.up_proj.weight, other.down_proj.weight]
    tensors += [other.gate_proj.bias, other.up_proj.bias, other.down_proj.bias]
    with pytest.raises(RuntimeError, match="packed: was not made from these weights"):
        ops._prepare(packed, *tensors, *other.form.arguments)


def test_refusing_x_does_not_depend_on_the_copy(module):
    with torch.no_grad():
        assert prepared_calls(module, torch.randn(3, 16)) == 2
        with pytest.raises(ValueError, match="x: must be on the device of w_up"):
            module(torch.randn(3, 16, device="meta"))
        assert module(torch.randn(16, 3).t()).shape == (3, 16)
        assert module(torch.randn(0, 16)).shape == (0, 16)
        x = torch.randn(3, 16)
        torch.testing.assert_close(module(torch._neg_view(x)), module(-x), rtol=0, atol=0)


class _Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


@pytest.mark.parametrize("make", [_Plain, lambda: nn.Sequential(*_Plain().children())])
def test_a_fused_model_is_prepared_while_its_children_are_as_they_were(make):
    model = make()
    up, act, down = model.children()
    x = torch.randn(3, 16)

    def close():
        with torch.no_grad():
            torch.testing.assert_close(model(x), down(act(up(x))), rtol=2e-4, atol=2e-5)

    fusedmlp.fuse(model)
    close()
    assert prepared_calls(model, x) == 2
    handle = act.register_forward_hook(lambda *_: None)
    assert prepared_calls(model, x) == 0
    handle.remove()
    with torch.no_grad(), pytest.raises(RuntimeError, match="mat1 and mat2"):  # the original's words
        model(torch.randn(3, 17))
    for weights in (up, down):
        weights.weight.data = torch.randn_like(weights.weight)
    close(), close()
    assert prepared_calls(model, x) == 2
    up.weight = nn.Parameter(torch.randn(24, 16))
    assert prepared_calls(model, x) == 0
    close(), close()
    for parameter in model.parameters():  # of a dtype that is not fused
        parameter.data = parameter.data.double()
    with torch.no_grad():
        assert model(x.double()).dtype is torch.float64
        with pytest.raises(RuntimeError, match="dtype"):
            model(x)


def test_a_dropped_copy_is_released(module):
    with torch.no_grad():
        module(torch.randn(3, 16))
    pack = module.__dict__["_fusedmlp_packs"]["mlp"]
    handle, weight = pack.handle, weakref.ref(module.up_proj.weight)
    assert handle > 0
    del pack
    fusedmlp.invalidate(module)
    with pytest.raises(RuntimeError, match="names no prepared MLP"):
        ops._mlp_prepared(torch.randn(3, 16), handle)
    module.up_proj.weight = nn.Parameter(torch.randn(24, 16))
    gc.collect()
    assert weight() is None
