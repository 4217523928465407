"""fusedmlp.tune: specs and models to a tuned table, which calls then follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import fusedmlp
from fusedmlp import capi

SPEC = "gelu:33x65+bias,bf16"
QUICK = {"min_time": 0.0}


RUN = """
import sys, fusedmlp, torch
torch.set_num_threads(1)
[spec] = sys.argv[1:]
before = fusedmlp.explain(spec, 6)
tuned = fusedmlp.tune(spec, tokens=[6], threads=before["threads"], min_time=0.0)
after = fusedmlp.explain(spec, 6)
[entry] = [entry for entry in after["entries"] if entry["chosen"]]
assert entry["name"] == tuned["results"][0]["fastest"] and entry["basis"] == "measured", entry
assert entry["reason"].startswith("tuned: measured "), entry
print(tuned["written"])
"""


def test_a_written_table_is_used_at_once(tmp_path) -> None:
    path = tmp_path / "cache" / "tuned.json"
    done = subprocess.run(
        [sys.executable, "-c", RUN, SPEC],
        env={**os.environ, "FUSEDMLP_TUNED": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    [row] = json.loads(path.read_text())["measurements"]
    assert (row["spec"], row["tokens"], row["bucket"]) == (SPEC, 6, 8)


def test_a_spec_is_measured() -> None:
    tuned = fusedmlp.tune(SPEC, tokens=[1, 6], dry_run=True, **QUICK)
    assert [(r["spec"], r["tokens"], r["bucket"]) for r in tuned["results"]] == [(SPEC, 1, 1), (SPEC, 6, 8)]
    assert tuned["threads"] == torch.get_num_threads() and tuned["written"] is None
    for result in tuned["results"]:
        assert result["fastest"] == min(result["us"], key=result["us"].get)
    assert "nothing written" in str(tuned) and SPEC in str(tuned)


def test_a_model_is_measured_by_its_shapes() -> None:
    plain = nn.Sequential(nn.Linear(24, 96), nn.GELU(), nn.Linear(96, 24))
    model = nn.ModuleList(
        [
            plain,
            fusedmlp.FusedMLP(32, 48, gated=True, activation="silu", bias=False),
            fusedmlp.FusedMLP(32, 48),
        ]
    )
    fusedmlp.fuse(model)
    tuned = fusedmlp.tune(model, tokens=[2], threads=1, dry_run=True, **QUICK)
    specs = {result["spec"] for result in tuned["results"]}
    assert specs == {"gelu:24x96+bias", "swiglu:32x48", "gelu:32x48+bias"}


def test_default_tokens_are_powers_of_two() -> None:
    tuned = fusedmlp.tune("relu:8x8", threads=1, dry_run=True, **QUICK)
    assert [result["tokens"] for result in tuned["results"]] == [1 << i for i in range(11)]


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"what": "gelu:8"}, ValueError, "spec"),
        ({"what": []}, ValueError, "specs"),
        ({"what": [3]}, TypeError, "what"),
        ({"what": nn.Linear(2, 2)}, ValueError, "fusedmlp.fuse"),
        ({"what": "gelu:8x8", "tokens": [0]}, ValueError, "tokens"),
        ({"what": "gelu:8x8", "tokens": []}, ValueError, "tokens"),
        ({"what": "gelu:8x8", "tokens": [1.5]}, ValueError, "tokens"),
        ({"what": "gelu:8x8", "threads": -1}, ValueError, "threads"),
        ({"what": "gelu:8x8", "packed": 1}, ValueError, "packed"),
        ({"what": "gelu:8x8", "min_time": -1.0}, ValueError, "min_time"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        fusedmlp.tune(**arguments, dry_run=True)


def test_without_a_table_it_says_so_before_measuring() -> None:
    with pytest.raises(ValueError, match="FUSEDMLP_TUNED"):  # off: see conftest.py
        fusedmlp.tune("gelu:4096x16384", tokens=[1024])


def test_explain_and_info_say_what_became_of_the_table() -> None:
    assert capi.explain(SPEC, 1)["tuned"] == "off: FUSEDMLP_TUNED says so"
    assert capi.info()["tuned"] == "off: FUSEDMLP_TUNED says so"
