"""The operators and fusedmlp.mlp: numbers, errors, gradients, autocast, vmap."""

from __future__ import annotations

import pytest
import torch
from mlp_reference import ACTIVATIONS, DTYPES, FORMS, GATES, assert_close, make
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, hessian, jvp, stack_module_state, vmap

import fusedmlp

ops = torch.ops.fusedmlp
BIASES = ("", "up", "down", "gate", "gate up", "up down", "gate up down")


@pytest.fixture(autouse=True)
def _one_thread(_fresh_state):
    torch.set_num_threads(1)  # tiny problems; the tests that need more threads ask for them


def fused(mlp, x):
    return fusedmlp.mlp(x, mlp.w_up, mlp.w_down, **mlp.keywords)


def packed(mlp, x):
    with torch.no_grad():
        return ops.mlp_packed(x, ops.pack(*mlp.arguments), *mlp.arguments)


# ------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation, gate", FORMS)
def test_every_form_matches_float64(activation, gate, dtype):
    for biases in ("", "gate up down") if gate == "separate" else ("", "up down"):
        mlp = make(activation, gate, (17, 65, 9), dtype, biases)
        for tokens in (0, 1, 3, 33):
            x = torch.randn(tokens, 17).to(dtype)
            assert_close(fused(mlp, x), mlp, x)
            assert_close(packed(mlp, x), mlp, x)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("biases", BIASES)
def test_every_set_of_biases(gate, biases):
    mlp = make("silu", gate, (33, 40, 7), biases=biases)
    x = torch.randn(5, 33)
    assert_close(fused(mlp, x), mlp, x)
    assert_close(packed(mlp, x), mlp, x)


@pytest.mark.parametrize(
    "widths", [(1, 1, 1), (1, 3, 1), (3, 1, 65), (127, 384, 65), (64, 256, 64), (768, 384, 17)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_widths(widths, dtype):
    for gate in ("none", "separate", "interleaved"):
        mlp = make("gelu", gate, widths, dtype)
        for tokens in (1, 2, 70):
            x = torch.randn(tokens, widths[0]).to(dtype)
            assert_close(fused(mlp, x), mlp, x)
            assert_close(packed(mlp, x), mlp, x)


@pytest.mark.parametrize("gate", GATES)
def test_sums_of_small_integers_are_exact(gate):
    widths = (24, 40, 16)
    mlp = make("relu2", gate, widths).map(lambda t: torch.randint_like(t, -2, 3))
    x = torch.randint(-2, 3, (6, 24)).float()
    expected = mlp.exact(x).float()
    assert torch.equal(fused(mlp, x), expected)
    assert torch.equal(packed(mlp, x), expected)


def strided_inputs():
    base = torch.randn(4, 6, 40)
    yield "rows apart", base[0, :, :17]
    yield "leading dims", base[:, :, :17]
    yield "gap in the leading dims", base[:, :4, :17]
    yield "transposed", torch.randn(17, 5).t()
    yield "every other column", base[0, :, 0:34:2]
    yield "expanded", torch.randn(1, 17).expand(5, 17)
    yield "swapped leading dims", torch.randn(3, 5, 17).transpose(0, 1)
    yield "one row", torch.randn(17)
    yield "misaligned", torch.randn(5 * 17 + 1)[1:].view(5, 17)
    yield "many dims", torch.randn(1, 2, 1, 1, 3, 1, 1, 1, 2, 17)
    yield "no tokens", torch.randn(3, 0, 17)


@pytest.mark.parametrize("x", [pytest.param(x, id=name) for name, x in strided_inputs()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_of_x(x, dtype):
    x = x.to(dtype) if x.dtype is not dtype else x
    mlp = make("gelu", "separate", dtype=dtype)
    for y in (fused(mlp, x), packed(mlp, x)):
        assert y.shape == (*x.shape[:-1], 9) and y.is_contiguous()
        assert_close(y, mlp, x)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_kept_as_in_out(gate, dtype):
    mlp = make("gelu_tanh", gate, dtype=dtype)
    conv1d = mlp.map(lambda t: t.t().contiguous().t() if t.dim() == 2 else t)
    assert conv1d.w_up.stride(0) == 1
    x = torch.randn(4, 17).to(dtype)
    assert_close(fused(conv1d, x), mlp, x)
    assert_close(packed(conv1d, x), mlp, x)


def test_weights_that_are_slices():
    wide = make(widths=(40, 80, 30))
    mlp = make()
    mlp.w_up, mlp.w_down = wide.w_up[3:68, 2:19], wide.w_down[:9, 5:70]
    mlp.b_up = torch.randn(130)[::2]
    x = torch.randn(4, 17)
    assert_close(fused(mlp, x), mlp, x)
    assert_close(packed(mlp, x), mlp, x)


def test_nan_and_inf_go_where_the_layers_send_them():
    mlp = make("silu", "separate")
    x = torch.randn(6, 17)
    x[1, 3], x[2, 0], x[4, 16] = float("nan"), float("inf"), -float("inf")
    for y in (fused(mlp, x), packed(mlp, x)):
        assert torch.equal(y.isfinite(), mlp.layers(x).isfinite())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_same_input_same_bits(dtype, threads):
    torch.set_num_threads(threads)
    mlp = make("gelu", "separate", (64, 192, 48), dtype)
    x = torch.randn(50, 64).to(dtype)
    for run in (fused, packed):
        first = run(mlp, x)
        assert all(torch.equal(first, run(mlp, x)) for _ in range(4))


def test_float64_goes_layer_by_layer():
    for activation, gate in FORMS:
        mlp = make(activation, gate, dtype=torch.float64)
        x = torch.randn(3, 17, dtype=torch.float64)
        # swiglu_oai: the C++ library holds alpha as a float32.
        tolerance = 1e-7 if activation == "swiglu_oai" else 1e-12
        torch.testing.assert_close(fused(mlp, x), mlp.layers(x), rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------- PyTorch's own checks


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("gate", GATES)
def test_opcheck(gate, dtype):
    for requires_grad in (False, True):
        mlp = make("silu", gate, dtype=dtype, grad=requires_grad)
        x = torch.randn(2, 3, 17).to(dtype).requires_grad_(requires_grad)
        tolerance = {"rtol": 0.05, "atol": 0.05} if dtype.itemsize == 2 else {}
        torch.library.opcheck(ops.mlp.default, (x, *mlp.arguments), **tolerance)
    if dtype is torch.float64:
        return
    mlp, x = make("silu", gate, dtype=dtype), torch.randn(2, 17).to(dtype)
    copy = ops.pack(*mlp.arguments)
    torch.library.opcheck(ops.mlp_packed.default, (x, copy, *mlp.arguments), **tolerance)
    # test_aot_dispatch_dynamic compares the bytes of two results; they hold the addresses of their
    # weights, so they differ. test_pack_can_be_traced looks at what matters.
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.pack.default, mlp.arguments, test_utils=utils)


def test_pack_can_be_traced():
    mlp, x = make("gelu", "separate"), torch.randn(3, 17)
    compiled = torch.compile(lambda: ops.pack(*mlp.arguments), fullgraph=True, backend="aot_eager")
    copy = compiled()
    assert copy.shape == ops.pack(*mlp.arguments).shape
    assert torch.equal(ops.mlp_packed(x, copy, *mlp.arguments), packed(mlp, x))


@pytest.mark.parametrize("activation, gate", FORMS)
def test_gradcheck(activation, gate):
    if activation in ("relu", "relu2"):
        torch.manual_seed(3)  # no pre-activation within gradcheck's step of the kink
    mlp = make(activation, gate, (3, 5, 2), torch.float64, grad=True)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def function(x, *tensors):
        tensors = iter(tensors)
        return fused(mlp.map(lambda _: next(tensors)), x)

    inputs = (x, *(t for t in mlp.tensors if t is not None))
    assert torch.autograd.gradcheck(function, inputs)
    if activation in ("gelu", "silu", "swiglu_oai"):
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation, gate", FORMS)
def test_gradients_are_those_of_the_layers(activation, gate, dtype):
    mlp = make(activation, gate, dtype=dtype, grad=True)
    x = torch.randn(2, 11, 17).to(dtype).requires_grad_()
    inputs = [x, *(t for t in mlp.tensors if t is not None)]
    out = torch.randn(2, 11, 9).to(dtype)
    ours = torch.autograd.grad(fused(mlp, x), inputs, out)
    eager = torch.autograd.grad(mlp.layers(x), inputs, out)
    exact = torch.autograd.grad(mlp.exact(x), inputs, out.double())
    for a, b, truth in zip(ours, eager, exact):
        assert a.dtype is dtype and a.shape == truth.shape
        bound = 2 * (b.double() - truth.double()).norm() + torch.finfo(dtype).eps * truth.double().norm()
        assert (a.double() - truth.double()).norm() <= bound


def test_gradients_only_where_asked():
    mlp = make("silu", "separate", grad=True)
    mlp.w_up.requires_grad_(False)
    mlp.b_down.requires_grad_(False)
    x = torch.randn(3, 17)
    fused(mlp, x).sum().backward()
    assert mlp.w_up.grad is None and mlp.b_down.grad is None and x.grad is None
    reference = make("silu", "separate", grad=True).map(lambda t: t)
    for name in ("w_gate", "w_down", "b_gate", "b_up"):
        assert getattr(mlp, name).grad.shape == getattr(reference, name).shape


def test_bias_gradients_are_summed_in_float32():
    mlp = make("identity", "none", (8, 8, 8), torch.bfloat16, grad=True)
    x = torch.randn(4096, 8).bfloat16()
    out = torch.ones(4096, 8).bfloat16()  # a bfloat16 running sum of ones stops at 256
    fused(mlp, x).backward(out)
    assert torch.equal(mlp.b_down.grad, torch.full((8,), 4096.0).bfloat16())


def test_no_tokens_has_zero_gradients():
    mlp = make("gelu", "separate", grad=True)
    fused(mlp, torch.randn(0, 17)).sum().backward()
    assert all(torch.equal(t.grad, torch.zeros_like(t)) for t in mlp.tensors)


# -------------------------------------------------------------------------------- autocast and vmap


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    mlp = make("gelu", "separate", grad=True)
    x = torch.randn(5, 17)
    low = mlp.map(lambda t: t.detach().to(dtype))
    with torch.autocast("cpu", dtype):
        y = fused(mlp, x)
        with torch.no_grad():
            mixed = ops.mlp_packed(x, ops.pack(*low.arguments), *low.arguments)
            recast = ops.mlp_packed(x, ops.pack(*mlp.arguments), *mlp.arguments)
    assert y.dtype is dtype and mixed.dtype is dtype and recast.dtype is dtype
    assert_close(y, low, x.to(dtype))
    assert_close(mixed, low, x.to(dtype))
    y.float().sum().backward()
    assert mlp.w_up.grad.dtype is torch.float32
    with torch.autocast("cpu", enabled=False):
        assert fused(mlp, x).dtype is torch.float32


def test_vmap_over_x_and_over_weights():
    mlp, x = make("gelu", "separate"), torch.randn(4, 3, 17)
    expected = mlp.layers(x)
    torch.testing.assert_close(vmap(lambda t: fused(mlp, t))(x), expected)
    torch.testing.assert_close(vmap(lambda t: fused(mlp, t), in_dims=1, out_dims=1)(x), expected)
    copy = ops.pack(*mlp.arguments)
    torch.testing.assert_close(vmap(lambda t: ops.mlp_packed(t, copy, *mlp.arguments))(x), expected)
    several = [make("gelu", "separate") for _ in range(3)]
    for dim in (0, 2):
        ups = torch.stack([m.w_up for m in several], dim)

        def with_up(w_up):
            return fusedmlp.mlp(x, w_up, mlp.w_down, w_gate=mlp.w_gate)

        each = torch.stack([with_up(m.w_up) for m in several])
        torch.testing.assert_close(vmap(with_up, in_dims=dim)(ups), each)


def test_functional_transforms():
    module, x = fusedmlp.FusedMLP(6, 10, gated=True), torch.randn(4, 6)
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters, x):
        return functional_call(module, parameters, (x,)).sin().sum()

    def layers(parameters, x):
        hidden = torch.nn.functional.gelu(
            x @ parameters["gate_proj.weight"].t() + parameters["gate_proj.bias"]
        )
        hidden = hidden * (x @ parameters["up_proj.weight"].t() + parameters["up_proj.bias"])
        return (hidden @ parameters["down_proj.weight"].t() + parameters["down_proj.bias"]).sin().sum()

    with torch.no_grad():
        module(x)  # there is a packed copy, which has no gradients
    close = torch.testing.assert_close
    close(grad(loss)(parameters, x), grad(layers)(parameters, x))
    per_sample = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    close(per_sample, vmap(grad(layers), in_dims=(None, 0))(parameters, x))
    with torch.no_grad():
        close(
            jvp(lambda t: loss(parameters, t), (x,), (x,)), jvp(lambda t: layers(parameters, t), (x,), (x,))
        )
    close(
        hessian(loss, argnums=1)(parameters, x),
        hessian(layers, argnums=1)(parameters, x),
        rtol=1e-4,
        atol=1e-5,
    )

    ensemble = [fusedmlp.FusedMLP(6, 10, gated=True) for _ in range(3)]
    stacked, buffers = stack_module_state(ensemble)
    outputs = vmap(lambda p: functional_call(module, p, (x,)))(stacked)
    close(outputs, torch.stack([m(x) for m in ensemble]))


# ------------------------------------------------------------------------------ devices and the C ABI


def test_meta_tensors_have_shapes():
    meta = make().map(lambda t: t.to("meta"))
    assert fused(meta, torch.randn(4, 17, device="meta")).shape == (4, 9)


def test_devices_without_a_kernel_say_so():
    with FakeTensorMode():  # no such device is needed here
        x, w_up, w_down = (torch.empty(shape, device="xpu") for shape in ((4, 17), (65, 17), (9, 65)))
        with pytest.raises(NotImplementedError, match="w_up: device must be cpu or cuda, got xpu"):
            fusedmlp.mlp(x, w_up, w_down)


@pytest.mark.parametrize("activation, gate", FORMS)
def test_the_layers_that_cuda_tensors_get(activation, gate):
    """What is registered for CUDA is made of torch operators, so it can be looked at here."""
    for name in ("mlp", "mlp_packed", "pack"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fusedmlp::{name}", "CUDA")
    for dtype in DTYPES:
        mlp = make(activation, gate, dtype=dtype)
        x = torch.randn(2, 3, 17).to(dtype)
        assert_close(fusedmlp.formulas.forward(x, *mlp.arguments), mlp, x)


def test_packed_size_is_what_pack_makes():
    for dtype in DTYPES:
        for activation, gate in FORMS:
            for biases in ("", "gate up down"):
                mlp = make(activation, gate, dtype=dtype, biases=biases)
                size = fusedmlp.ops.packed_size(
                    mlp.w_up,
                    mlp.w_down,
                    (mlp.b_gate, mlp.b_up, mlp.b_down),
                    ACTIVATIONS.index(activation),
                    GATES.index(gate),
                )
                assert ops.pack(*mlp.arguments).numel() == size


def test_explain_and_info():
    answer = fusedmlp.explain("geglu:768x3072,bf16", 16)
    assert answer["chosen"] in str(answer) and answer["tokens"] == 16
    assert [e["name"] for e in answer["entries"]][-1] == "reference"
    assert fusedmlp.info()["devices"][0]["device"] == "cpu" and "cpu" in str(fusedmlp.info())
    with pytest.raises(ValueError, match="spec"):
        fusedmlp.explain("nonsense", 1)
    with pytest.raises(ValueError, match="tokens: must be in"):
        fusedmlp.explain("gelu:8x8", -1)
    with pytest.raises(TypeError, match="tokens: must be an int, got float"):
        fusedmlp.explain("gelu:8x8", 1.0)
    with pytest.raises(TypeError, match="spec: must be a str, got int"):
        fusedmlp.explain(8, 1)
    with pytest.raises(ValueError, match="device"):
        fusedmlp.explain("gelu:8x8", 1, "abacus")
