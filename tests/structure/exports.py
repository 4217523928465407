"""Checks a built libfusedmlp.so from outside: what it exports and what it needs.

Usage: exports.py LIBRARY
"""

from __future__ import annotations

import re
import subprocess
import sys

ALLOWED = re.compile(r"^(fusedmlp::v0::|fusedmlp_[a-z0-9_]+$|(typeinfo|typeinfo name|vtable) for fusedmlp::v0::)")
REQUIRED = [
    r"^fusedmlp::v0::Plan::create\(",
    r"^fusedmlp::v0::Plan::run\(",
    r"^fusedmlp::v0::parse_spec\(",
    r"^fusedmlp::v0::version\(\)$",
    r"^fusedmlp_version$",
    r"^fusedmlp_free$",
    r"^fusedmlp_explain_json$",
    r"^fusedmlp::v0::analyze\(",
    r"^fusedmlp_analyze_json$",
]
NEEDED = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2",
          "libpthread.so.0", "libdl.so.2", "librt.so.1", "libz.so.1"}  # libz: every Linux has it, manylinux allows it


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def problems(library: str) -> list[str]:
    """Every surprise in the library's dynamic section, one line each."""
    found = []
    symbols = [line.split(" ", 2)[2] for line in run("nm", "-DC", "--defined-only", library).splitlines()]
    found += [f"exports {name}, which is not public" for name in symbols if not ALLOWED.match(name)]
    for pattern in REQUIRED:
        if not any(re.search(pattern, name) for name in symbols):
            found.append(f"does not export {pattern}")
    dynamic = run("readelf", "-d", library)
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    found += [f"needs {name}, which a bare machine lacks" for name in sorted(needed - NEEDED)]
    if "[libfusedmlp.so.0]" not in dynamic:
        found.append("its SONAME is not libfusedmlp.so.0")
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        found.append("carries a run path")
    return found


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = problems(sys.argv[1])
    print("\n".join(found) if found else "exports: as expected")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
