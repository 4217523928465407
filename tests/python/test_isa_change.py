"""FUSEDMLP_ISA read at each call: copies that were packed for another class are made anew, not read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import torch
import fusedmlp
x = torch.randn(8, 256)
module = fusedmlp.FusedMLP(256, 1024)
with torch.no_grad():
    expected = module.down_proj(torch.nn.functional.gelu(module.up_proj(x)))
    for isa in sys.argv[1:]:
        os.environ["FUSEDMLP_ISA"] = isa
        for _ in range(3):
            torch.testing.assert_close(module(x), expected, rtol=2e-4, atol=2e-5)
"""


@pytest.mark.parametrize("order", [("generic", "avx2", "generic"), ("avx2", "generic"), ("avx2", "avx512", "avx2")])
def test_copies_follow_the_class(order):
    environment = {**os.environ, "FUSEDMLP_ISA": order[0]}
    if "avx512" in order and " avx512f" not in open("/proc/cpuinfo").read():
        pytest.skip("no AVX-512 here")
    ended = subprocess.run([sys.executable, "-c", SCRIPT, *order], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
