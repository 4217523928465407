"""The analysis of traces that this machine's PyTorch writes: models of transformers, eager, compiled and trained.

There is no GPU in these traces: ops stand in for kernels.
"""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

import fusedmlp
from trace_models import IMAGES, TEXT, Row, make, row_of


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def analyzed(call, shapes=True):
    """The analysis of one call."""
    call()  # first calls do more
    with profile(activities=[ProfilerActivity.CPU], record_shapes=shapes) as profiler:
        call()
    analysis = fusedmlp.analyze(profiler)
    assert analysis["trace"]["device"] is None
    assert analysis["trace"]["kernels"] == 0
    assert analysis["trace"]["steps"] is None
    for mlp in analysis["mlps"]:
        assert 0 < mlp["us_per_instance"] <= mlp["span_us_per_instance"]
        assert mlp["gap_us_per_instance"] == pytest.approx(
            mlp["span_us_per_instance"] - mlp["us_per_instance"], abs=0.01
        )
        assert 0 < mlp["confidence"] <= 1
    return analysis


def rows(analysis, phase="forward"):
    return sorted((row_of(mlp) for mlp in analysis["mlps"] if mlp["phase"] == phase), key=str)


def inference(model, inputs, shapes=True):
    def call():
        with torch.no_grad():
            model(**inputs)

    return analyzed(call, shapes)


@pytest.mark.parametrize("name", [*TEXT, *IMAGES])
def test_eager(name):
    model, inputs, expected = make(name)
    analysis = inference(model, inputs)
    assert rows(analysis) == sorted(expected, key=str)
    assert analysis["trace"]["warnings"] == []
    assert {mlp["dtype"] for mlp in analysis["mlps"]} == {"fp32"}
    assert {mlp["phase"] for mlp in analysis["mlps"]} == {"forward"}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "phi3", "gemma", "nemotron"])
def test_bf16(name):
    model, inputs, expected = make(name)
    analysis = inference(model.bfloat16(), inputs)
    assert rows(analysis) == expected
    assert {mlp["dtype"] for mlp in analysis["mlps"]} == {"bf16"}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "phi3", "gemma", "opt", "nemotron", "t5_gated"])
def test_without_shapes_what_is_not_known_is_none(name):
    model, inputs, expected = make(name)
    analysis = inference(model, inputs, shapes=False)
    unknown = dict(tokens=None, d_in=None, d_hidden=None)
    assert rows(analysis) == [row._replace(**unknown) for row in expected]
    for mlp in analysis["mlps"]:
        assert mlp["dtype"] is None
        assert mlp["confidence"] < 0.8


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3", "gpt_oss"])
def test_experts(name, implementation):
    model, inputs, expected = make(name, experts_implementation=implementation)
    found = rows(inference(model, inputs))
    # A loop has products for every expert that got rows: how many is the router's choice.
    same = sorted((row._replace(launches=0) for row in found), key=str)
    assert same == sorted((row._replace(launches=0) for row in expected), key=str)
    if implementation == "eager":
        assert all(row.launches >= 4 * 2 for row in found if row.experts)


FAMILIES = {
    "llama": ("swiglu", 5, False, "intermediate_size", "hidden_size", "num_hidden_layers"),
    "phi3": ("swiglu", 4, False, "intermediate_size", "hidden_size", "num_hidden_layers"),
    "bert": ("gelu", 3, True, "intermediate_size", "hidden_size", "num_hidden_layers"),
    "gpt2": ("gelu_tanh", 10, True, "n_inner", "n_embd", "n_layer"),
    "t5_gated": ("geglu_tanh", 12, False, "d_ff", "d_model", "num_layers"),
}


@pytest.mark.parametrize("seed", range(12))
def test_random_configurations(seed):
    choose = random.Random(seed)
    name = choose.choice(sorted(FAMILIES))
    kind, launches, bias, inner, outer, layers = FAMILIES[name]
    d_in, d_hidden, count = 4 * choose.randint(2, 12), choose.randint(3, 90), choose.randint(1, 3)
    batch, length = choose.randint(1, 3), choose.randint(1, 9)
    if name == "phi3":
        d_in = 8 * choose.randint(1, 6)  # rotary halves
    model, inputs, _ = make(name, **{inner: d_hidden, outer: d_in, layers: count})
    inputs = {"input_ids": torch.randint(3, 64, (batch, length))}
    expected = Row(kind, launches, bias, d_hidden, d_in, batch * length, count)
    assert rows(inference(model, inputs)) == [expected]


def training(model, inputs, autocast=False):
    def call():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(**inputs)[0]
        out.float().sum().backward()

    return call


# Backward: two products a weight, the gradient of each bias, of the activation and of the gate's product, and the sum
# of the two gradients of x.
@pytest.mark.parametrize("name, launches", [("llama", 10), ("bert", 7), ("opt", 7)])
def test_training(name, launches):
    model, inputs, expected = make(name)
    analysis = analyzed(training(model, inputs))
    assert rows(analysis) == expected
    backward = rows(analysis, "backward")
    assert [row._replace(launches=0) for row in backward] == [row._replace(launches=0) for row in expected]
    assert backward[0].launches in (launches, launches + 1)  # a residual's gradient may be summed there
    assert analysis["trace"]["warnings"] == []


def test_autocast_casts_belong_to_the_mlp():
    model, inputs, _ = make("llama")
    analysis = analyzed(training(model, inputs, autocast=True))
    # Casts: three weights, x for gate and for up; and back for three weights and x twice.
    assert rows(analysis) == [Row("swiglu", 10)]
    assert rows(analysis, "backward") == [Row("swiglu", 15)]
    assert {mlp["dtype"] for mlp in analysis["mlps"]} == {"bf16"}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_runs_forward_twice(reentrant):
    model, inputs, _ = make("llama")
    model.train().gradient_checkpointing_enable(dict(use_reentrant=reentrant))
    model.enable_input_require_grads()
    analysis = analyzed(training(model, inputs))
    assert rows(analysis) == [Row("swiglu", 5, instances=4)]
    assert rows(analysis, "backward") == [Row("swiglu", 10)]


@pytest.mark.parametrize("name, kind, bias", [("llama", "swiglu", False), ("bert", "gelu", True)])
def test_compiled(name, kind, bias):
    model, inputs, expected = make(name, **({"use_cache": False} if name == "llama" else {}))
    with torch._inductor.config.patch("cpp.enable_kernel_profile", True):
        analysis = inference(torch.compile(model), inputs)
    # The element-wise passes are one kernel.
    products = 3 if kind == "swiglu" else 2
    assert rows(analysis) == [expected[0]._replace(launches=products + 1)]


def test_compiled_cpu_code_without_events_is_not_guessed_at():
    model, inputs, _ = make("llama", use_cache=False)
    analysis = inference(torch.compile(model), inputs)
    assert analysis["mlps"] == []
    (warning,) = analysis["trace"]["warnings"]
    assert warning.startswith("2 pairs of products in compiled CPU code have the shapes of an MLP")


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_with_and_without_its_fast_path(activation):
    layer = nn.TransformerEncoderLayer(48, 4, 104, batch_first=True, activation=activation)
    inputs = {"src": torch.randn(2, 6, 48)}
    expected = Row(activation, 4, bias=True, instances=1)  # the fourth is the dropout between
    assert rows(inference(layer.train(), inputs)) == [expected]
    assert rows(inference(layer.eval(), inputs)) == [expected._replace(launches=2)]  # _addmm_activation


class Decoy(nn.Module):
    """Products, activations and shapes of MLPs, and none is one."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm = nn.LayerNorm(32)

    def forward(self, x):
        gate = F.silu(self.a(x)) + self.b(x)  # a sum is no gate
        normed = self.c(self.norm(F.gelu(self.a(x))))  # a norm between
        softmax = self.c(torch.softmax(self.a(x), -1))
        low_rank = self.c(self.a(x))  # no activation
        return gate.sum() + (normed + softmax + low_rank).sum()


def test_what_only_looks_like_an_mlp():
    x = torch.randn(4, 16)
    model = Decoy()

    def call():
        with torch.no_grad():
            model(x)

    assert analyzed(call)["mlps"] == []


ACTIVATIONS = {
    "relu": (F.relu, "relu", "reglu"),
    "silu": (F.silu, "silu", "swiglu"),
    "gelu": (F.gelu, "gelu", "geglu"),
    "sigmoid": (torch.sigmoid, "sigmoid", "glu"),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), "quick_gelu", "quick_geglu"),
    "swish by hand": (lambda x: x * torch.sigmoid(x), "silu", "swiglu"),
    "relu2": (lambda x: F.relu(x).square(), "relu2", "relu2glu"),
    "relu2 by hand": (lambda x: F.relu(x) * F.relu(x), None, None),  # two activations: not one we know
    "erf by hand": (lambda x: x * 0.5 * (1.0 + torch.erf(x / 1.4142135623730951)), "gelu", "geglu"),
    "bloom": (
        lambda x: x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))),
        "gelu_tanh",
        "geglu_tanh",
    ),
    "tanh": (torch.tanh, None, None),  # not an activation of this library
    "mish": (F.mish, None, None),
}


@pytest.mark.parametrize("packed", [False, True, None])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, packed):
    activation, plain, gated = ACTIVATIONS[name]
    x, up, down = torch.randn(5, 16), nn.Linear(16, 24 if not packed else 48), nn.Linear(24, 8)
    gate = nn.Linear(16, 24)

    def call():
        with torch.no_grad():
            if packed is None:
                return down(activation(up(x)))
            if not packed:
                return down(activation(gate(x)) * up(x))
            half, other = up(x).chunk(2, -1)
            return down(activation(half) * other)

    found = [(mlp["kind"], mlp["tokens"], mlp["d_hidden"], mlp["d_out"]) for mlp in analyzed(call)["mlps"]]
    kind = plain if packed is None else gated
    assert found == ([] if kind is None else [(kind, 5, 24, 8)])
