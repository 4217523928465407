"""Looks at a wheel's files and uses the copy of it that the running Python has installed.

Run by test_wheel.sh in a fresh virtual environment; the wheel is named by FUSEDMLP_TEST_WHEEL.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = Path(os.environ["FUSEDMLP_TEST_WHEEL"])
PREFIX = Path(sys.prefix).resolve()
PROGRAM = PREFIX / "bin" / "fusedmlp"
MAX_BYTES = 16 << 20  # code for three GPU architectures, in the library and in the command
# libz: every Linux has it, and manylinux allows it.
SYSTEM = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2", "libz.so.1"}


def library(name: str) -> Path:
    """Path of a library in the installed package."""
    return next(PREFIX.glob("lib/python3*/site-packages/fusedmlp")) / "lib" / name


def dynamic(path: Path) -> tuple[set[str], str]:
    """Names of the needed libraries, and the run path."""
    text = subprocess.run(["readelf", "-d", str(path)], check=True, capture_output=True, text=True).stdout
    run_path = re.search(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", text)
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", text)), run_path.group(1) if run_path else ""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def test_name_says_any_python() -> None:
    assert re.fullmatch(r"fusedmlp-[0-9.]+-py3-none-[a-z0-9_]+\.whl", WHEEL.name)


def test_holds_the_package_and_nothing_else() -> None:
    names = zipfile.ZipFile(WHEEL).namelist()
    libraries = sorted(name for name in names if ".so" in name)
    assert libraries == ["fusedmlp/lib/libfusedmlp.so.0", "fusedmlp/lib/libfusedmlp_torch.so"]
    assert any(re.fullmatch(r"fusedmlp-[0-9.]+\.data/scripts/fusedmlp", name) for name in names), names
    assert any(name.endswith("/LICENSE") for name in names), names
    strays = [name for name in names if not name.startswith(("fusedmlp/", "fusedmlp-")) or "__pycache__" in name]
    assert not strays
    assert WHEEL.stat().st_size < MAX_BYTES


def test_core_library_needs_the_system_only() -> None:
    needed, run_path = dynamic(library("libfusedmlp.so.0"))
    assert needed <= SYSTEM
    assert run_path == ""


def test_operator_library_finds_the_core_beside_it() -> None:
    needed, run_path = dynamic(library("libfusedmlp_torch.so"))
    assert needed - SYSTEM == {"libfusedmlp.so.0", "libtorch_cpu.so"}
    assert run_path == "$ORIGIN"


def test_operator_library_has_no_python_api() -> None:
    undefined = run("nm", "-Du", str(library("libfusedmlp_torch.so")))
    assert undefined.returncode == 0
    assert not re.findall(r"\bU (_?Py[A-Z]\w+)", undefined.stdout)


def test_binaries_are_stripped() -> None:
    for path in (library("libfusedmlp.so.0"), library("libfusedmlp_torch.so"), PROGRAM):
        sections = run("readelf", "-SW", str(path)).stdout
        assert ".dynsym" in sections or ".text" in sections
        assert ".symtab" not in sections, path


def test_program_stands_alone() -> None:
    needed, run_path = dynamic(PROGRAM)
    assert needed <= SYSTEM
    assert run_path == ""
    info = run(str(PROGRAM), "info")
    assert info.returncode == 0 and "cpu" in info.stdout.lower(), info
    verify = run(str(PROGRAM), "verify", "gelu:64x256+bias")
    assert verify.returncode == 0, verify


def test_module_runs() -> None:
    shown = run(sys.executable, "-m", "fusedmlp", "--help")
    assert shown.returncode == 0 and "profile" in shown.stdout, shown


def test_fuses_a_model() -> None:
    import torch

    import fusedmlp

    assert Path(fusedmlp.__file__).resolve().is_relative_to(PREFIX), "not the installed copy"
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64)).eval()
    x = torch.randn(5, 64)
    with torch.no_grad():
        expected = model(x)
        report = fusedmlp.fuse(model)
        actual = model(x)
    assert not torch.equal(actual, torch.zeros_like(actual))
    # Sums of 64 and 256 products of order 1 in fp32; the order of summation is all that differs.
    torch.testing.assert_close(actual, expected, rtol=0, atol=320 * 2**-24)
    assert len(report.replaced) == 1, str(report)
