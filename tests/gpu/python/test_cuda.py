"""The operators, fuse() and profile() on a GPU. Runs from the GPU bundle, with the wheel's package."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fusedmlp
from fusedmlp import formulas

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

ACTIVATIONS = {
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
EPS = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def tensors(tokens, d_in, d_hidden, dtype, gated=True, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator).to("cuda", dtype)
    return {
        "x": make(tokens, d_in),
        "w_up": make(d_hidden, d_in) / d_in**0.5,
        "w_down": make(d_in, d_hidden) / d_hidden**0.5,
        "w_gate": make(d_hidden, d_in) / d_in**0.5 if gated else None,
        "b_gate": make(d_hidden) if gated and bias else None,
        "b_up": make(d_hidden) if bias else None,
        "b_down": make(d_in) if bias else None,
    }


def layers(t, activation):
    up = F.linear(t["x"], t["w_up"], t["b_up"])
    if t["w_gate"] is None:
        hidden = ACTIVATIONS[activation](up)
    else:
        hidden = ACTIVATIONS[activation](F.linear(t["x"], t["w_gate"], t["b_gate"])) * up
    return F.linear(hidden, t["w_down"], t["b_down"])


def error(y, truth):
    return float((y.double() - truth).norm() / truth.norm())


def expect_accurate(t, activation, y):
    truth = layers({k: None if v is None else v.double() for k, v in t.items()}, activation)
    own = error(layers(t, activation), truth)
    assert error(y, truth) <= 2 * own + EPS[y.dtype]


@pytest.fixture(params=["", "cuda.portable"])
def kernel(request, monkeypatch):
    """Dispatch's choice, and the portable kernels whatever it is."""
    if request.param:
        monkeypatch.setenv("FUSEDMLP_KERNEL", request.param)
    else:
        monkeypatch.delenv("FUSEDMLP_KERNEL", raising=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [(1, 64, 128), (37, 136, 264), (130, 65, 127), (512, 768, 1536)])
def test_matches_fp64(kernel, dtype, gated, shape):
    t = tensors(*shape, dtype, gated)
    expect_accurate(t, "silu", fusedmlp.ops.mlp(**t, activation="silu"))


def test_strided_operands(kernel):
    t = tensors(24, 64, 96, torch.bfloat16)
    wide = torch.randn(24, 3, 100, device="cuda", dtype=torch.bfloat16)
    t["x"] = wide[:, 1, 3:67]  # unaligned rows
    t["w_up"] = t["w_up"].t().contiguous().t()  # [in, out]
    expect_accurate(t, "gelu", fusedmlp.ops.mlp(**t, activation="gelu"))
    t["x"] = wide[:, :, :64].transpose(0, 1)  # rows with two strides
    assert fusedmlp.ops.mlp(**t, activation="gelu").shape == (3, 24, 64)
    t["w_down"] = torch.randn(64, 192, device="cuda", dtype=torch.bfloat16)[:, ::2]  # no unit stride: unfused
    expect_accurate({**t, "x": t["x"].contiguous()}, "gelu", fusedmlp.ops.mlp(**t, activation="gelu"))


def test_no_tokens_and_float64(kernel):
    t = tensors(0, 64, 96, torch.bfloat16)
    assert fusedmlp.ops.mlp(**t, activation="silu").shape == (0, 64)
    t = tensors(5, 64, 96, torch.float64)
    assert torch.allclose(fusedmlp.ops.mlp(**t, activation="silu"), layers(t, "silu"))


def test_current_stream_and_graph(monkeypatch):
    monkeypatch.setenv("FUSEDMLP_KERNEL", "cuda.portable")
    t = tensors(64, 256, 512, torch.bfloat16)
    want = fusedmlp.ops.mlp(**t, activation="silu")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        fusedmlp.ops.mlp(**t, activation="silu")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = fusedmlp.ops.mlp(**t, activation="silu")
    t["x"].mul_(-1)
    other = fusedmlp.ops.mlp(**t, activation="silu")
    graph.replay()
    assert torch.equal(y, other) and not torch.equal(other, want)
    t["x"].mul_(-1)
    for _ in range(3):
        graph.replay()
    assert torch.equal(y, want)


def test_streams_side_by_side(monkeypatch):
    monkeypatch.setenv("FUSEDMLP_KERNEL", "cuda.portable")
    problems = [tensors(96, 256, 512, torch.bfloat16, seed=i) for i in range(4)]
    want = [fusedmlp.ops.mlp(**t, activation="silu") for t in problems]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in problems]
    for _ in range(20):
        got = []
        for t, stream in zip(problems, streams):
            with torch.cuda.stream(stream):
                got.append(fusedmlp.ops.mlp(**t, activation="silu"))
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_gradients(kernel):
    t = tensors(33, 64, 96, torch.float32)
    leaves = {k: v.clone().requires_grad_() for k, v in t.items() if v is not None}
    reference = {k: v.clone().requires_grad_() for k, v in t.items() if v is not None}
    fusedmlp.ops.mlp(**leaves, activation="silu").square().mean().backward()
    layers(reference, "silu").square().mean().backward()
    for name, leaf in leaves.items():
        assert torch.allclose(leaf.grad, reference[name].grad, rtol=1e-4, atol=1e-6), name


def test_autocast(kernel):
    t = tensors(33, 64, 96, torch.float32)
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        y = fusedmlp.ops.mlp(**t, activation="silu")
    assert y.dtype is torch.bfloat16


def test_mixed_devices_are_refused():
    t = tensors(5, 64, 96, torch.bfloat16)
    t["w_down"] = t["w_down"].cpu()
    with pytest.raises(ValueError, match="w_down: must be on the device of w_up"):
        fusedmlp.ops.mlp(**t, activation="silu")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(128, 256, bias=False)
        self.up_proj = nn.Linear(128, 256, bias=False)
        self.down_proj = nn.Linear(256, 128, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fuse_and_undo(kernel, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), nn.LayerNorm(128), Block()).to("cuda", dtype).eval()
    x = torch.randn(2, 17, 128, device="cuda", dtype=dtype)
    with torch.no_grad():
        truth = copy.deepcopy(model).double()(x.double())
        before = model(x)
        report = fusedmlp.fuse(model)
        assert len(report.replaced) == 2, str(report)
        after = model(x)
        assert error(after, truth) <= 2 * error(before, truth) + EPS[dtype]
        report.undo()
        assert torch.equal(model(x), before)


def test_torch_compile(kernel):
    model = Block().to("cuda", torch.bfloat16).eval()
    x = torch.randn(64, 128, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        before = model(x)
        fusedmlp.fuse(model)
        compiled = torch.compile(model, fullgraph=True)
        assert error(compiled(x), before.double()) < 2e-2


def test_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEDMLP_KERNEL", "cuda.portable")
    model = Block().to("cuda", torch.bfloat16)
    x = torch.randn(256, 128, device="cuda", dtype=torch.bfloat16)
    result = fusedmlp.profile(model, x, repeats=3, compile=False, out=tmp_path)
    assert not result.failed, str(result)
    eager, fused = result.row("eager"), result.row("fused")
    assert eager["mlp"]["ops"] >= 4  # three products, SiLU, product
    assert 2 <= fused["mlp"]["ops"] <= 4  # two products, each with a second kernel where k is split
    assert fused["mlp"]["median_us"] > 0 and fused["mlp"]["error_fp64"] <= fused["mlp"]["error_bound"]
    assert (tmp_path / "fused.trace.json").exists()


@pytest.mark.parametrize(
    "spec, tokens", [("swiglu:1024x4096,bf16", 256), ("swiglu:4096x14336,bf16", 256), ("gelu:2048x8192,fp32", 4096)]
)
def test_explain_says_what_runs(spec, tokens):
    explanation = fusedmlp.explain(spec, tokens, "cuda")
    name, dims = spec.split(",")[0].split(":")
    d_in, d_hidden = map(int, dims.split("x"))
    dtype = torch.bfloat16 if spec.endswith("bf16") else torch.float32
    t = tensors(tokens, d_in, d_hidden, dtype, gated=name == "swiglu", bias=False)
    activation = "silu" if name == "swiglu" else "gelu"
    fusedmlp.ops.mlp(**t, activation=activation)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        fusedmlp.ops.mlp(**t, activation=activation)
        torch.cuda.synchronize()
    on_gpu = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    own = ["fusedmlp" in event.name for event in on_gpu]
    assert own and all(own) == any(own) == explanation["pays"], (explanation["pays"], str(explanation))


def test_formulas_are_what_runs_unfused(monkeypatch):
    monkeypatch.delenv("FUSEDMLP_KERNEL", raising=False)
    t = tensors(4096, 1024, 4096, torch.bfloat16, bias=False)
    y = fusedmlp.ops.mlp(**t, activation="silu")
    arguments = (fusedmlp.formulas.ACTIVATIONS["silu"], fusedmlp.formulas.GATES["separate"], 1.702, 7.0)
    want = formulas.forward(t["x"], t["w_gate"], t["w_up"], t["w_down"], None, None, None, *arguments)
    assert error(y, want.double()) < 1e-2
