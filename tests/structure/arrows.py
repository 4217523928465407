"""Checks the shape of the source tree: who includes whom, file lengths, and text that must not be committed.

Usage: arrows.py ROOT          exit 1 and one line a violation
       arrows.py --self-test   plants one violation of each kind in a copy and expects it to be found
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MAX_LINES = 600
CODE_SUFFIXES = {".h", ".hpp", ".cpp", ".c", ".cu", ".cuh", ".inc"}
COUNTED_SUFFIXES = CODE_SUFFIXES | {".py", ".cmake", ".sh"}

# Room -> rooms it may include from. A room not named here (tests, benchmarks, ...) may include any of these.
ROOMS = {
    "include": {"include"},
    "src/core": {"include", "src/core"},
    "src/reference": {"include", "src/core", "src/reference"},
    "src/cpu": {"include", "src/core", "src/cpu"},
    "src/cuda": {"include", "src/core", "src/cuda"},
    "src/trace": {"include", "src/core", "src/trace"},
    "src/report": {"include", "src/core", "src/trace", "src/report"},
}
ANY_SOURCE = set(ROOMS)
ROOMS["src/cli"] = ANY_SOURCE | {"src/cli"}
ROOMS["python/csrc"] = ANY_SOURCE | {"python/csrc"}
NEVER_INCLUDED = {"tests", "lab", "src/cli", "benchmarks", "fuzz", "examples"}

# External header family -> the only places that may include it. None: anywhere but include/.
EXTERNAL = [
    (re.compile(r"^(torch|ATen|c10)/"), "torch", ("python/",)),
    (re.compile(r"^(cuda|cublas|cudnn|nvml|nvtx|cooperative_groups|cute|cutlass)"), "CUDA",
     ("src/cuda/", "tests/gpu/", "benchmarks/", "lab/")),
    (re.compile(r"^hwy/"), "Highway", ("src/cpu/", "tests/", "benchmarks/", "lab/")),
    (re.compile(r"^CLI/"), "CLI11", ("src/cli/",)),
    (re.compile(r"^(gtest|gmock)/"), "GoogleTest", ("tests/",)),
    (re.compile(r"^benchmark/"), "google-benchmark", ("benchmarks/",)),
    (re.compile(r"^Python\.h$"), "the Python C API", ()),
    (re.compile(r"^fmt/"), "fmt", None),
    (re.compile(r"^rapidjson/"), "RapidJSON", None),
]
NOT_SOURCE = {"build", "out", "dist", ".venv", ".git"}
C_HEADERS = {"stdint.h", "stddef.h"}

INCLUDE = re.compile(r'^\s*#\s*(?:include|define\s+HWY_TARGET_INCLUDE)\s*([<"])([^>"]+)[>"]', re.MULTILINE)
PYTHON_IMPORT = re.compile(r"^\s*(?:from|import)\s+(tests|lab|benchmarks)\b", re.MULTILINE)

# Written in pieces, so that this file does not hold them.
FORBIDDEN = [
    re.compile(r"(?<![\w.$}>~-])/" + top + r"/[\w.]") for top in ("work", "root", "tmp", "home")
] + [re.compile(re.escape(host)) for host in ("pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org")]


def committed_files(root: Path) -> list[Path]:
    """Files that git tracks or would track, relative to `root`; every file where there is no repository."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, text=True
    )
    if listing.returncode == 0:
        names = [Path(name) for name in listing.stdout.split("\0") if name]
    else:
        names = [path.relative_to(root) for path in root.rglob("*")]
        names = [name for name in names if name.parts[0] not in NOT_SOURCE]
    return sorted(name for name in names if (root / name).is_file())


def room_of(path: str) -> str:
    """The room a repository path lies in: "src/core", "include", "tests", ..."""
    parts = path.split("/")
    if parts[0] in ("src", "python") and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def resolve(root: Path, source: Path, name: str) -> str | None:
    """The repository path that an include names, or None when it is not in the tree."""
    for base in (source.parent, Path("src"), Path("include"), Path("tests"), Path(".")):
        candidate = root / base / name
        if candidate.is_file():
            resolved = candidate.resolve()
            if resolved.is_relative_to(root.resolve()):
                return resolved.relative_to(root.resolve()).as_posix()
    return None


def check_include(root: Path, source: Path, quote: str, name: str) -> str | None:
    """One violation in words, or None."""
    here = room_of(source.as_posix())
    target = resolve(root, source, name) if quote == '"' or name.startswith("fusedmlp/") else None
    if target is not None:
        there = room_of(target)
        if there in NEVER_INCLUDED and there != here:
            return f"includes {name}: nothing includes {there}"
        if here in ROOMS and there not in ROOMS[here]:
            return f"includes {name}: {here} may include {', '.join(sorted(ROOMS[here]))}, not {there}"
        return None
    for pattern, family, places in EXTERNAL:
        if pattern.match(name):
            if here == "include":
                return f"includes {name}: include/ may include standard headers only"
            if places is not None and not source.as_posix().startswith(places):
                return f"includes {name}: {family} belongs in {' '.join(places) or 'no file'}"
            return None
    if here == "include" and ("." in name or "/" in name) and name not in C_HEADERS:
        return f"includes {name}: include/ may include standard headers only"
    if quote == '"' and room_of("src/" + name) in NEVER_INCLUDED | {"src/lab"}:
        return f"includes {name}: nothing includes it"
    return None


def check(root: Path) -> list[str]:
    """Every violation of the tree under `root`, one line each."""
    problems = []
    for path in committed_files(root):
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.as_posix()
        for pattern in FORBIDDEN:
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                problems.append(f"{name}:{line}: holds '{match.group()}', a path or host of one machine")
        if path.suffix in COUNTED_SUFFIXES or path.name == "CMakeLists.txt":
            lines = text.count("\n")
            if lines > MAX_LINES:
                problems.append(f"{name}: {lines} lines, at most {MAX_LINES}: split it by idea")
        if path.suffix in CODE_SUFFIXES:
            for match in INCLUDE.finditer(text):
                problem = check_include(root, path, match.group(1), match.group(2))
                if problem:
                    line = text.count("\n", 0, match.start(1)) + 1
                    problems.append(f"{name}:{line}: {problem}")
        if path.suffix == ".py" and name.startswith("python/"):
            for match in PYTHON_IMPORT.finditer(text):
                problems.append(f"{name}: imports {match.group(1)}, which the package does not ship")
    return problems


CLEAN = {
    "include/fusedmlp/a.h": "#include <string>\n#include <stdint.h>\n",
    "src/core/b.h": '#include "fusedmlp/a.h"\n#include <fmt/format.h>\n',
    "src/cpu/c.cpp": '#include <hwy/highway.h>\n#include "core/b.h"\n#include <immintrin.h>\n',
    "src/cpu/c.h": "",
    "src/reference/r.h": '#include "core/b.h"\n',
    "src/trace/t.h": '#include "core/b.h"\n',
    "src/report/p.h": '#include "trace/t.h"\n',
    "src/cuda/d.cpp": '#include <cuda_runtime_api.h>\n#include "core/b.h"\n',
    "src/cli/main.cpp": '#include <CLI/CLI.hpp>\n#include "reference/r.h"\n#include "cli/e.h"\n',
    "src/cli/e.h": "",
    "python/csrc/ops.cpp": '#include <torch/csrc/stable/library.h>\n#include "fusedmlp/a.h"\n',
    "tests/unit/x_test.cpp": '#include <gtest/gtest.h>\n#include "cpu/c.h"\n#include "helper.h"\n',
    "tests/helper.h": "",
    "lab/kernel.h": "",
}

PLANTED = [  # path, text, a piece of the message
    ("include/fusedmlp/v.h", "#include <fmt/format.h>\n", "standard headers only"),
    ("include/fusedmlp/v.h", '#include "core/b.h"\n', "not src/core"),
    ("include/fusedmlp/v.h", "#include <immintrin.h>\n", "standard headers only"),
    ("src/core/v.cpp", '#include "cpu/c.h"\n', "not src/cpu"),
    ("src/core/v.cpp", '#include "../reference/r.h"\n', "not src/reference"),
    ("src/core/v.cpp", "#include <torch/csrc/stable/library.h>\n", "torch belongs in"),
    ("src/core/v.cpp", "#  include <cuda_runtime.h>\n", "CUDA belongs in"),
    ("src/core/v.cpp", "#include <hwy/highway.h>\n", "Highway belongs in"),
    ("src/cpu/v.cpp", '#include "reference/r.h"\n', "not src/reference"),
    ("src/cpu/v.cpp", '#define HWY_TARGET_INCLUDE "reference/r.h"\n', "not src/reference"),
    ("src/cuda/v.cpp", '#include "cpu/c.h"\n', "not src/cpu"),
    ("src/trace/v.cpp", '#include "report/p.h"\n', "not src/report"),
    ("src/report/v.cpp", '#include "cpu/c.h"\n', "not src/cpu"),
    ("src/reference/v.cpp", '#include "cli/e.h"\n', "nothing includes src/cli"),
    ("src/cli/v.cpp", '#include "../../tests/helper.h"\n', "nothing includes tests"),
    ("python/csrc/v.cpp", '#include "../../lab/kernel.h"\n', "nothing includes lab"),
    ("python/csrc/v.cpp", "#include <Python.h>\n", "Python C API"),
    ("python/fusedmlp/v.py", "from tests import helper\n", "imports tests"),
    ("src/core/v.cpp", "//\n" * (MAX_LINES + 1), "split it by idea"),
    ("docs/v.md", "see /" + "work/main\n", "one machine"),
    ("scripts/v.sh", "cd /" + "tmp/build\n", "one machine"),
    ("scripts/v.sh", "pip install --index-url https://pypi" + ".org/simple x\n", "one machine"),
]


def self_test() -> list[str]:
    """What the checker fails to do on trees made for it."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def write(name: str, text: str) -> Path:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return path

        for name, text in CLEAN.items():
            write(name, text)
        if found := check(root):
            failures.append(f"a clean tree was refused: {found}")
        for name, text, expected in PLANTED:
            planted = write(name, text)
            found = check(root)
            if len(found) != 1 or expected not in found[0] or not found[0].startswith(name):
                failures.append(f"planted {name} {text[:50]!r}: wanted one '{expected}', got {found}")
            planted.unlink()
    return failures


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    problems = self_test() if sys.argv[1] == "--self-test" else check(Path(sys.argv[1]))
    print("\n".join(problems) if problems else "structure: no violation")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
