"""Checks that the compiler left the AMX kernels' prefetches in: nothing else of the library asks for lines by T2.

Usage: prefetches.py LIBRARY
"""

from __future__ import annotations

import subprocess
import sys


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    code = subprocess.run(("objdump", "-d", sys.argv[1]), check=True, capture_output=True, text=True).stdout
    count = code.count("prefetcht2")
    print(f"prefetches: {count} by T2" if count else f"{sys.argv[1]} has no prefetcht2")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
