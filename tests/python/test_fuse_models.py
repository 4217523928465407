"""fuse() on the classes of transformers: found, same numbers, same state_dict, undone without a trace."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import fuse_models
from fuse_helpers import assert_as_exact, double, fused_calls, leftovers
from fusedmlp.fuse import fuse


def _types(model):
    return [type(module) for module in model.modules()]


def _attributes(model):
    return [sorted(module.__dict__) for module in model.modules()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", fuse_models.CASES)
def test_model(name: str, dtype: torch.dtype) -> None:
    case = fuse_models.make(name)
    model = case.model.to(dtype)
    inputs = {key: x.to(dtype) if x.is_floating_point() else x for key, x in case.inputs.items()}
    wide = {key: x.double() if x.is_floating_point() else x for key, x in inputs.items()}
    exact = fuse_models.output(double(model), wide)
    original = fuse_models.output(model, inputs)
    types, attributes = _types(model), _attributes(model)
    state = copy.deepcopy(model.state_dict())

    report = fuse(model)
    replaced = [entry for entry in report.replaced if entry.cls in case.cls.split()]
    assert len(report.replaced) == len(replaced) == case.count, str(report)
    suffix = ",fp32" if dtype is torch.float32 else ",bf16"
    assert all(e.spec.startswith(case.form) and suffix in e.spec for e in replaced), str(report)
    assert all(e.error_fused <= 2 * e.error_original + torch.finfo(dtype).eps for e in replaced)
    assert fused_calls(lambda: fuse_models.output(model, inputs)) >= case.count
    assert_as_exact(fuse_models.output(model, inputs), original, exact)

    after = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert all(isinstance(module, cls) for module, cls in zip(model.modules(), types))

    report.undo()
    assert _types(model) == types
    assert _attributes(model) == attributes
    assert leftovers(model) == []
    assert torch.equal(fuse_models.output(model, inputs), original)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "opt"])
def test_float16(name: str) -> None:
    case = fuse_models.make(name)
    model = case.model.half()
    exact = fuse_models.output(double(model), case.inputs)
    original = fuse_models.output(model, case.inputs)
    assert len(fuse(model).replaced) == case.count
    assert_as_exact(fuse_models.output(model, case.inputs), original, exact)


def test_twice_changes_nothing_more() -> None:
    case = fuse_models.make("bert")
    first = fuse(case.model)
    types = _types(case.model)
    second = fuse(case.model)
    assert second.replaced == [] and second.extra_bytes == 0
    assert [(e.path, e.reason) for e in second.skipped] == [
        ("encoder.layer.0", "already fused"),
        ("encoder.layer.1", "already fused"),
    ]
    assert second.counts["linears_fused"] == first.counts["linears_fused"] == 4
    second.undo()
    assert _types(case.model) == types
    first.undo()
    assert leftovers(case.model) == []


def test_t5_with_wo_in_float32_is_left_alone() -> None:
    case = fuse_models.make("t5-gated")
    model = case.model.bfloat16()
    for block in model.encoder.block:
        block.layer[1].DenseReluDense.wo.float()
    original = fuse_models.output(model, case.inputs)
    report = fuse(model)
    reasons = {entry.path: entry.reason for entry in report.skipped}
    assert len(report.replaced) == 2 and len(reasons) == 2
    assert all("mixed dtype" in reason for reason in reasons.values())
    assert set(reasons) == {f"encoder.block.{i}.layer.1.DenseReluDense" for i in range(2)}
    assert fuse_models.output(model, case.inputs).dtype == original.dtype


def test_experts_are_left_alone() -> None:
    config = transformers.MixtralConfig(**fuse_models.GROUPED, **fuse_models.TOKENS, num_local_experts=2)
    report = fuse(transformers.MixtralForCausalLM(config))
    assert report.replaced == []
    assert [(e.path, e.cls) for e in report.skipped] == [
        (f"model.layers.{i}.mlp.experts", "MixtralExperts") for i in range(2)
    ]


def test_heads_are_left_alone_with_a_reason() -> None:
    model = transformers.BertForMaskedLM(transformers.BertConfig(**fuse_models.SIZES, **fuse_models.TOKENS))
    report = fuse(model)
    assert len(report.replaced) == 2
    assert [entry.path for entry in report.skipped] == ["cls.predictions"]
    assert "LayerNorm) between the Linears is not known" in report.skipped[0].reason


def test_generate_gives_the_same_tokens() -> None:
    case = fuse_models.make("llama")
    arguments = dict(input_ids=fuse_models.IDS, max_new_tokens=12, do_sample=False, eos_token_id=None)
    expected = case.model.generate(**arguments)
    fuse(case.model)
    assert torch.equal(case.model.generate(**arguments), expected)


def test_recorded_hidden_states_are_still_there() -> None:
    case = fuse_models.make("bert")
    with torch.no_grad():
        before = case.model(**case.inputs, output_hidden_states=True)
        fuse(case.model)
        after = case.model(**case.inputs, output_hidden_states=True)
    assert len(after.hidden_states) == len(before.hidden_states) == 3
    for a, b in zip(after.hidden_states, before.hidden_states):
        torch.testing.assert_close(a, b)


def test_chunked_feed_forward() -> None:
    case = fuse_models.make("bert")
    for layer in case.model.encoder.layer:
        layer.chunk_size_feed_forward = 2
    exact = fuse_models.output(double(case.model), case.inputs)
    original = fuse_models.output(case.model, case.inputs)
    fuse(case.model)
    assert fused_calls(lambda: fuse_models.output(case.model, case.inputs)) == 6  # three chunks, two layers
    assert_as_exact(fuse_models.output(case.model, case.inputs), original, exact)


@pytest.mark.parametrize("name", ["bert", "opt", "llama"])
def test_gradient_checkpointing(name: str) -> None:
    case = fuse_models.make(name)
    plain = copy.deepcopy(case.model).train()
    fuse(case.model)
    case.model.train().gradient_checkpointing_enable()
    for module in [*plain.modules(), *case.model.modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    gradients = []
    for model in (plain, case.model):
        model(**case.inputs)[0].square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert list(gradients[0]) == list(gradients[1])
    for key, expected in gradients[0].items():
        # Two fp32 evaluations of the same gradient: far below any error of meaning, above rounding.
        assert float((gradients[1][key] - expected).norm()) <= 1e-4 * float(expected.norm()) + 1e-6, key
