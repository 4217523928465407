"""`fusedmlp explain-kernel`: text, JSON, stdin and exit codes. The binary's path comes in FUSEDMLP_CLI."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

NVJET = "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT"
WORDS = (
    "cuBLAS matrix product (nvjet): bf16, tile 256x128x64, 4 stages, cluster 1x2, layout tnt, cooperative, "
    "adds the bias, written for sm_90, raster h"
)


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [os.environ["FUSEDMLP_CLI"], "explain-kernel", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_text() -> None:
    done = run(NVJET, "triton_poi_fused__unsafe_view_gelu_mul_0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f'"{NVJET}"\n  {WORDS}\n'
        '"triton_poi_fused__unsafe_view_gelu_mul_0"\n  torch.compile: one element-wise pass '
        "(_unsafe_view, gelu, mul): mul of two tensors or by a number: the name does not say which\n"
    )


def test_unknown_name_says_so_and_exits_1() -> None:
    done = run("my_kernel", NVJET, "void mine::gemm<float>(float*)", "_ZN4mine4gemmEv")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        '"my_kernel"',
        "  not known; nothing about it is certain",
        f'"{NVJET}"',
        f"  {WORDS}",
        '"void mine::gemm<float>(float*)"',
        '  not known; a C++ function in "mine"',
        '"_ZN4mine4gemmEv"',
        '  not known; the mangled name of "mine::gemm", a C++ function in "mine"',
    ]


def test_names_from_stdin() -> None:
    done = run("-", stdin=f"{NVJET}\r\n\n  \nattn_fwd\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0::2] == [f'"{NVJET}"', '"attn_fwd"']


def test_control_characters_do_not_reach_the_terminal() -> None:
    done = run("-", stdin="\x1b[31mred\n")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith('"\\x1b[31mred"\n')


def test_json() -> None:
    done = run(NVJET, "my_kernel", "--json", "-")
    assert (done.returncode, done.stderr) == (1, "")
    known, unknown = json.loads(done.stdout)["results"]
    assert known == {
        "name": NVJET,
        "known": True,
        "family": "nvjet",
        "work": "gemm",
        "words": WORDS,
        "certain": "",
        "dtype": "bf16",
        "sm": 90,
        "tile_m": 256,
        "tile_n": 128,
        "tile_k": 64,
        "stages": 4,
        "cluster_m": 1,
        "cluster_n": 2,
        "layout": "tnt",
        "schedule": "cooperative",
        "split_k": False,
        "grouped": False,
        "backward": False,
        "fused_bias": True,
        "activation": None,
        "multiplies": False,
        "ops": [],
    }
    assert (unknown["known"], unknown["family"], unknown["words"], unknown["tile_m"]) == (
        False,
        "unknown",
        "",
        None,
    )


@pytest.mark.parametrize(
    ("arguments", "stdin", "word"),
    [
        ((), "", "name"),
        (("",), "", "NAME"),
        (("  ",), "", "NAME"),
        (("-",), "\n\n", "stdin"),
        ((NVJET, "--tile"), "", "--tile"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], stdin: str, word: str) -> None:
    done = run(*arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fusedmlp: ") and done.stderr.count("\n") == 1
    assert word in done.stderr


def test_json_file_that_cannot_be_written() -> None:
    done = run(NVJET, "--json", "/nowhere/names.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/nowhere/names.json" in done.stderr
