"""Compiles each snippet twice: as it is, which must succeed, and with -DMUST_NOT_COMPILE, which must fail with
the message that the snippet's `// expect:` line gives as a regular expression.

Usage: run.py COMPILER INCLUDE_DIR SNIPPET...
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def compile_snippet(compiler: str, include: str, source: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [compiler, "-std=c++20", "-fsyntax-only", "-Werror=unused-result", f"-I{include}", *flags, str(source)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})


def check(compiler: str, include: str, source: Path) -> str | None:
    """What is wrong with this snippet's outcome, or None."""
    expected = re.search(r"^// expect: (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    if expected is None:
        return "has no '// expect:' line"
    control = compile_snippet(compiler, include, source)
    if control.returncode != 0:
        return f"the control does not compile:\n{control.stderr}"
    bad = compile_snippet(compiler, include, source, "-DMUST_NOT_COMPILE")
    if bad.returncode == 0:
        return "compiled, and must not"
    if not re.search(expected.group(1), bad.stderr):
        return f"failed for another reason than /{expected.group(1)}/:\n{bad.stderr}"
    return None


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    failed = 0
    for name in sys.argv[3:]:
        problem = check(sys.argv[1], sys.argv[2], Path(name))
        print(f"{'FAILED' if problem else 'ok'}  {Path(name).name}{': ' + problem if problem else ''}")
        failed += problem is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
