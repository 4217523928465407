"""FusedMLP as an nn.Module, and run_fused for modules that own their weights."""

from __future__ import annotations

import copy
import io
import pickle
import threading

import pytest
import torch
from mlp_reference import ACTIVATIONS, DTYPES, GATES, PLAIN, make
from torch import nn

import fusedmlp
from fusedmlp.modules import (
    MlpForm,
    MlpTensors,
    packed_bytes,
    packed_copies,
    predicted_packed_bytes,
    prepack,
    run_fused,
)


@pytest.fixture(autouse=True)
def _one_thread(_fresh_state):
    torch.set_num_threads(1)  # tiny problems; the tests that need more threads ask for them


def layers(module, x):
    """What the module must compute, from its children."""
    hidden = module.up_proj(x)
    if module.form.gate == "none":
        return module.down_proj(nn.functional.gelu(hidden))
    return module.down_proj(nn.functional.gelu(module.gate_proj(x)) * hidden)


def check(module, x):
    with torch.no_grad():
        torch.testing.assert_close(module(x), layers(module, x), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_forward_with_and_without_gradients(gated, bias):
    module = fusedmlp.FusedMLP(20, 50, 10, gated=gated, bias=bias)
    x = torch.randn(3, 7, 20)
    expected = layers(module, x)
    y = module(x)
    torch.testing.assert_close(y, expected)
    assert y.requires_grad and packed_bytes(module) == 0
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
        assert packed_bytes(module) > 0
        torch.testing.assert_close(module(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module(x.requires_grad_()), expected)


def test_state_dict_is_that_of_three_linears():
    module = fusedmlp.FusedMLP(8, 16, gated=True)
    names = [f"{part}_proj.{kind}" for part in ("gate", "up", "down") for kind in ("weight", "bias")]
    assert list(module.state_dict()) == names == [name for name, _ in module.named_parameters()]
    x = torch.randn(2, 8)
    with torch.no_grad():
        expected = module(x)
    assert list(module.state_dict()) == names
    other = fusedmlp.FusedMLP(8, 16, gated=True)
    check(other, x)
    assert not other.load_state_dict(module.state_dict()).missing_keys
    with torch.no_grad():
        assert torch.equal(other(x), expected)


def test_a_packed_copy_is_no_buffer():
    """Much goes over the buffers of two modules in step: averaged weights, DDP's broadcast, load_state_dict."""
    module = fusedmlp.FusedMLP(8, 16, gated=True)
    before = len(list(module.named_parameters()))
    average = torch.optim.swa_utils.AveragedModel(module)
    for _ in range(2):
        with torch.no_grad():
            module(torch.randn(2, 8))
            module.up_proj.weight.add_(1)
        average.update_parameters(module)
        check(average.module, torch.randn(2, 8))
        assert packed_bytes(module) > 0 and packed_bytes(average) > 0
    assert list(module.buffers()) == [] and len(list(module.named_parameters())) == before


def test_initialised_as_linear_is():
    torch.manual_seed(1)
    module = fusedmlp.FusedMLP(8, 16)
    torch.manual_seed(1)
    up, down = nn.Linear(8, 16), nn.Linear(16, 8)
    assert torch.equal(module.up_proj.weight, up.weight) and torch.equal(module.down_proj.bias, down.bias)


def test_from_linears_shares_them():
    up, down, gate = nn.Linear(8, 16), nn.Linear(16, 4, bias=False), nn.Linear(8, 16)
    module = fusedmlp.FusedMLP.from_linears(up, down, "gelu", gate=gate)
    assert module.up_proj is up and module.down_proj is down and module.gate_proj is gate
    check(module, torch.randn(3, 8))
    with pytest.raises(TypeError, match="down: must be a torch.nn.Linear, got ReLU"):
        fusedmlp.FusedMLP.from_linears(up, nn.ReLU(), "gelu")
    with pytest.raises(ValueError, match="down: in_features must be 16, got 8"):
        fusedmlp.FusedMLP.from_linears(up, nn.Linear(8, 8), "gelu")
    with pytest.raises(ValueError, match=r"gate: weight shape must be that of up, \[16, 8\], got \[8, 8\]"):
        fusedmlp.FusedMLP.from_linears(up, down, "gelu", gate=nn.Linear(8, 8))


@pytest.mark.parametrize(
    "error, match, arguments",
    [
        (
            ValueError,
            "activation: must be one of identity, relu, .*swiglu_oai, got 'gleu'",
            {"activation": "gleu"},
        ),
        (ValueError, "swiglu_oai is a function of gate and up", {"activation": "swiglu_oai"}),
        (ValueError, "d_hidden: must be >= 1, got 0", {"d_hidden": 0}),
        (TypeError, "d_in: must be an int, got float", {"d_in": 8.0}),
        (ValueError, "d_out: must be >= 1, got -1", {"d_out": -1}),
    ],
)
def test_wrong_constructor_arguments(error, match, arguments):
    with pytest.raises(error, match=match):
        fusedmlp.FusedMLP(**{"d_in": 8, "d_hidden": 16, **arguments})


def test_wrong_inputs_raise_what_the_function_raises():
    module = fusedmlp.FusedMLP(8, 16)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            module(torch.randn(1, 8))
            with pytest.raises(
                ValueError, match=r"x: shape must be \[..., d_in\] with d_in = 8, got \[1, 9\]"
            ):
                module(torch.randn(1, 9))
            with pytest.raises(TypeError, match="x: dtype must be that of w_up"):
                module(torch.randn(1, 8).bfloat16())


def test_repr_and_docs_name_the_form():
    assert "activation='silu', gated=True" in repr(fusedmlp.FusedMLP(4, 4, activation="silu", gated=True))


@pytest.mark.parametrize("activation", PLAIN)
def test_children_that_are_more_than_linear_are_called(activation):
    module = fusedmlp.FusedMLP(8, 16, activation=activation)
    x = torch.randn(3, 8)
    with torch.no_grad():
        expected = module(x)
    seen = []
    handle = module.up_proj.register_forward_hook(lambda *_: seen.append("hook"))
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
    assert seen == ["hook"]
    handle.remove()
    nn.utils.parametrize.register_parametrization(module.down_proj, "weight", nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    nn.utils.parametrize.remove_parametrizations(module.down_proj, "weight")
    down = Doubled(16, 8)
    down.load_state_dict(module.down_proj.state_dict())
    module.down_proj = down
    with torch.no_grad():
        torch.testing.assert_close(module(x), 2 * expected)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_start_without_a_packed_copy(make_copy):
    module = fusedmlp.FusedMLP(8, 16, gated=True)
    x = torch.randn(3, 8)
    check(module, x)
    twin = make_copy(module)
    assert packed_bytes(module) > 0 and packed_bytes(twin) == 0
    check(twin, x)
    with torch.no_grad():
        twin.up_proj.weight.add_(1)
    check(module, x)
    check(twin, x)


def test_pickle_holds_the_weights_only():
    module = fusedmlp.FusedMLP(64, 256)
    before = len(pickle.dumps(module))
    check(module, torch.randn(1, 64))
    assert len(pickle.dumps(module)) == before
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    check(torch.load(stream, weights_only=False), torch.randn(1, 64))


def test_deepcopy_of_an_owner_that_knows_nothing_of_packed_copies():
    """A module of someone else."""
    owner = nn.Linear(4, 4)
    mlp = make("gelu", "none", (4, 4, 4))
    owner.weight, form = nn.Parameter(mlp.w_up), MlpForm("gelu", "none")

    def run(owner, x):
        tensors = MlpTensors(None, owner.weight, mlp.w_down, None, None, None)
        return run_fused(owner, "a", form, tensors, x)

    x = torch.randn(2, 4)
    with torch.no_grad():
        first = run(owner, x)
        twin = copy.deepcopy(owner)
        assert packed_bytes(owner) > 0 and packed_bytes(twin) == 0
        twin.weight.zero_()
        assert torch.equal(run(owner, x), first)
        assert torch.equal(run(twin, x), torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_of_dtype(dtype):
    module = fusedmlp.FusedMLP(32, 48, gated=True)
    check(module, torch.randn(5, 32))
    module.to(dtype)
    x = torch.randn(5, 32).to(dtype)
    with torch.no_grad():
        y = module(x)
        expected = layers(copy.deepcopy(module).double(), x.double())
    assert y.dtype is dtype
    assert (y.double() - expected).norm() <= 4 * torch.finfo(dtype).eps * expected.norm()
    assert [packed.dtype for packed in packed_copies(module)] == [torch.uint8]


def test_float64_module_keeps_no_copy():
    module = fusedmlp.FusedMLP(8, 16).double()
    x = torch.randn(2, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x), layers(module, x))
    assert packed_bytes(module) == 0


def test_packing_can_be_forbidden_and_is_accounted_for():
    module = fusedmlp.FusedMLP(32, 48, gated=True)
    tensors = MlpTensors(
        module.gate_proj.weight, module.up_proj.weight, module.down_proj.weight,
        module.gate_proj.bias, module.up_proj.bias, module.down_proj.bias,
    )  # fmt: skip
    predicted = predicted_packed_bytes(module.form, tensors)
    module._fusedmlp_pack = False
    check(module, torch.randn(2, 32))
    assert packed_bytes(module) == 0
    module._fusedmlp_pack = True
    check(module, torch.randn(2, 32))
    assert packed_bytes(module) == predicted > sum(p.numel() * 4 for p in module.parameters()) * 0.9
    assert packed_bytes(nn.Sequential(module, module)) == predicted
    fusedmlp.invalidate(nn.Sequential(module))
    assert packed_bytes(module) == 0
    assert prepack(module, "mlp", module.form, tensors) and packed_bytes(module) == predicted
    assert predicted_packed_bytes(module.form, MlpTensors(*(t.double() for t in tensors))) == 0
    with pytest.raises(TypeError, match="module: must be a torch.nn.Module, got int"):
        fusedmlp.invalidate(3)


def test_every_form_through_an_owner():
    for activation in ACTIVATIONS:
        for gate in GATES[1:] if activation == "swiglu_oai" else GATES:
            owner, mlp, form = nn.Module(), make(activation, gate), MlpForm(activation, gate)
            x = torch.randn(4, 17)
            for _ in range(2):
                y = run_fused(owner, "slot", form, MlpTensors(*mlp.tensors), x)
                torch.testing.assert_close(y, mlp.layers(x))
            assert [packed.dtype for packed in packed_copies(owner)] == [torch.uint8]
    with pytest.raises(ValueError, match="gate: must be one of none, separate"):
        MlpForm("gelu", "middle")


def test_an_owner_may_hold_several_slots():
    owner, x = nn.Module(), torch.randn(4, 17)
    mlps = {name: make("gelu", "separate") for name in ("first", "second")}
    for _ in range(2):
        for name, mlp in mlps.items():
            y = run_fused(owner, name, MlpForm("gelu", "separate"), MlpTensors(*mlp.tensors), x)
            torch.testing.assert_close(y, mlp.layers(x))
    assert len(packed_copies(owner)) == 2


def test_views_of_in_out_weights_are_recognised_from_call_to_call():
    owner, mlp, x = nn.Module(), make("gelu", "none"), torch.randn(4, 17)
    up, down = mlp.w_up.t().contiguous(), mlp.w_down.t().contiguous()
    copies = set()
    for _ in range(3):
        tensors = MlpTensors(None, up.t(), down.t(), None, mlp.b_up, mlp.b_down)
        torch.testing.assert_close(run_fused(owner, "a", MlpForm("gelu", "none"), tensors, x), mlp.layers(x))
        copies.add(packed_copies(owner)[0].data_ptr())
    assert len(copies) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_from_call_to_call(threads):
    torch.set_num_threads(threads)
    module, x = fusedmlp.FusedMLP(96, 200, gated=True), torch.randn(40, 96)
    with torch.no_grad():
        first = module(x)
        assert all(torch.equal(first, module(x)) for _ in range(5))
    check(module, x)


def test_many_threads_call_one_module():
    module = fusedmlp.FusedMLP(48, 96, gated=True)
    inputs = [torch.randn(n + 1, 48) for n in range(8)]
    with torch.no_grad():
        expected = [layers(module, x) for x in inputs]
    wrong = []
    start = threading.Barrier(len(inputs))

    def work(x, y):
        try:
            start.wait()
            with torch.no_grad():
                for step in range(30):
                    torch.testing.assert_close(module(x), y, rtol=2e-4, atol=2e-5)
                    if step == 10:
                        fusedmlp.invalidate(module)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_autocast_uses_the_region_dtype():
    module, x = fusedmlp.FusedMLP(32, 48), torch.randn(3, 32)
    check(module, x)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y, expected = module(x), layers(module, x)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.02)
    low = fusedmlp.FusedMLP(32, 48).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert low(x).dtype is torch.bfloat16 and packed_bytes(low) > 0


def test_training_lowers_the_loss_as_the_layers_do():
    torch.manual_seed(5)
    ours = fusedmlp.FusedMLP(8, 32, gated=True)
    theirs = copy.deepcopy(ours)
    x, target = torch.randn(64, 8), torch.randn(64, 8)
    losses = []
    for forward, module in ((lambda x: ours(x), ours), (lambda x: layers(theirs, x), theirs)):
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for _ in range(20):
            loss = nn.functional.mse_loss(forward(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 1 and losses[0] == pytest.approx(losses[1], rel=1e-3)
