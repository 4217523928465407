"""Every test starts from the same random numbers, the same threads, and no compiled graphs of another test."""

from __future__ import annotations

import os
import sys

import pytest
import torch

os.environ["FUSEDMLP_TUNED"] = "off"  # whatever table the user of this machine has


@pytest.fixture(autouse=True)
def _fresh_state():
    torch.manual_seed(20)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
