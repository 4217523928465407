"""Wrong arguments of fusedmlp.mlp and of the operators: the argument, what came and what is accepted."""

from __future__ import annotations

import pytest
import torch
from mlp_reference import assert_close, make

import fusedmlp

ops = torch.ops.fusedmlp


def wrong_calls():
    good = make("gelu", "separate")
    x = torch.randn(2, 17)

    def call(error, match, x=x, w_up=good.w_up, w_down=good.w_down, **more):
        keywords = {**good.keywords, **more}
        return pytest.param(error, match, (x, w_up, w_down), keywords, id=match[:40])

    yield call(TypeError, "x: must be a torch.Tensor, got list", x=[1.0])
    yield call(TypeError, "w_up: must be a torch.Tensor, got None", w_up=None)
    yield call(
        TypeError,
        "w_gate: dtype must be that of w_up .torch.float32., got torch.bfloat16",
        w_gate=good.w_gate.bfloat16(),
    )
    yield call(
        TypeError,
        "x: dtype must be float32, bfloat16, float16 or float64, got torch.int64",
        x=torch.ones(2, 17, dtype=torch.int64),
    )
    yield call(TypeError, "x: dtype must be that of w_up", x=x.double())
    yield call(ValueError, r"x: shape must be \[..., d_in\] with d_in = 17, got \[2, 16\]", x=x[:, :16])
    yield call(ValueError, r"x: shape must be \[..., d_in\] with d_in = 17, got \[\]", x=torch.tensor(1.0))
    yield call(ValueError, "w_up: must be a matrix", w_up=good.w_up[0])
    yield call(ValueError, "w_up: must be a matrix", w_up=good.w_up[:0])
    yield call(
        ValueError,
        r"w_down: shape must be \[d_out, d_hidden\] = \[9, 65\], got \[9, 64\]",
        w_down=good.w_down[:, :64],
    )
    yield call(
        ValueError,
        r"w_gate: shape must be \[d_hidden, d_in\] = \[65, 17\], got \[64, 17\]",
        w_gate=good.w_gate[:64],
    )
    yield call(ValueError, r"b_up: shape must be \[65\], got \[64\]", b_up=good.b_up[:64])
    yield call(ValueError, r"b_down: shape must be \[9\], got \[9, 1\]", b_down=good.b_down[:, None])
    yield call(
        ValueError, "w_gate: one stride must be 1.*pass a contiguous", w_gate=torch.randn(65, 34)[:, ::2]
    )
    yield call(ValueError, "w_up: one stride must be 1", w_up=torch.randn(1, 17).expand(65, 17))
    yield call(ValueError, "b_gate: stride must be at least 1", b_gate=torch.randn(1).expand(65))
    yield call(ValueError, "activation: must be one of identity, relu.*, got 'gleu'", activation="gleu")
    yield call(
        ValueError,
        "gate_order: must be None or one of first, last, interleaved, got 'middle'",
        gate_order="middle",
    )
    yield call(ValueError, "w_gate: must be None unless gate and up are separate", gate_order="first")
    yield call(
        ValueError,
        "w_up: a packed gate and up has 2 . d_hidden rows",
        gate_order="first",
        w_gate=None,
        b_gate=None,
    )
    yield call(ValueError, "b_gate: must be None unless", w_gate=None)
    yield call(
        ValueError,
        "swiglu_oai is a function of gate and up",
        activation="swiglu_oai",
        w_gate=None,
        b_gate=None,
    )
    yield call(ValueError, "limit: must be > 0, got -1", activation="swiglu_oai", limit=-1.0)
    yield call(ValueError, "alpha: must be finite, got nan", activation="swiglu_oai", alpha=float("nan"))
    yield call(
        ValueError, "w_gate: must be on the device of w_up .cpu., got meta", w_gate=good.w_gate.to("meta")
    )
    yield call(
        NotImplementedError,
        "w_up: layout must be torch.strided, got torch.sparse_coo",
        w_up=good.w_up.to_sparse(),
    )


@pytest.mark.parametrize("error, match, args, keywords", list(wrong_calls()))
def test_wrong_arguments(error, match, args, keywords):
    with pytest.raises(error, match=match):
        fusedmlp.mlp(*args, **keywords)


def wrong_operator_calls():
    good = make("gelu", "separate")
    x = torch.randn(2, 17)
    base = dict(
        zip(
            (
                "w_gate",
                "w_up",
                "w_down",
                "b_gate",
                "b_up",
                "b_down",
                "activation",
                "gate_order",
                "alpha",
                "limit",
            ),
            good.arguments,
        )
    )

    def call(match, x=x, **changes):
        return pytest.param(match, x, {**base, **changes}, id=match[:40])

    yield call("activation: must be in .0, 9., got 9", activation=9)
    yield call("gate_order: must be 0 .plain.*got 5", gate_order=5)
    yield call("w_gate: is required with gate_order 1", w_gate=None)
    yield call("w_gate: must be absent", gate_order=0)
    yield call("w_down: shape must be", w_down=good.w_down[:, :64])
    yield call("w_up: must have 2 dimensions", w_up=good.w_up[0])
    yield call("b_up: shape must be", b_up=good.b_up[:3])
    yield call("w_gate: one stride must be 1", w_gate=torch.randn(65, 34)[:, ::2])
    yield call("b_up: stride must be at least 1", b_up=torch.randn(1).expand(65))
    yield call("w_up: dtype must be float32, bfloat16, float16 or float64", w_up=good.w_up.to(torch.int8))
    yield call("b_down: dtype must be that of w_up .float32., got float16", b_down=good.b_down.half())
    yield call("x: dtype must be that of the weights .float32., got bfloat16", x=x.bfloat16())
    yield call("x: shape must be .* with d_in = 17, got .2, 16.", x=x[:, :16])
    yield call("limit", activation=8, limit=0.0)


@pytest.mark.parametrize("match, x, keywords", list(wrong_operator_calls()))
def test_operators_check_their_arguments_themselves(match, x, keywords):
    with pytest.raises(RuntimeError, match=match):
        ops.mlp(x, **keywords)
    copy = torch.empty(4096, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=match):
        ops.mlp_packed(x, copy, **keywords)


def test_wrong_packed_tensors():
    mlp, x = make("gelu", "separate"), torch.randn(2, 17)
    with pytest.raises(RuntimeError, match="packed: must be the uint8 tensor that fusedmlp::pack returned"):
        ops.mlp_packed(x, torch.empty(4096), *mlp.arguments)
    double = make("gelu", "separate", dtype=torch.float64)
    with pytest.raises(RuntimeError, match="w_up: dtype must be float32, bfloat16 or float16"):
        ops.pack(*double.arguments)
    # Anything else that is not a fresh copy is only slower.
    for junk in (
        torch.empty(0, dtype=torch.uint8),
        torch.zeros(8192, dtype=torch.uint8),
        ops.pack(*mlp.arguments)[1:],
    ):
        assert_close(ops.mlp_packed(x, junk, *mlp.arguments), mlp, x)
