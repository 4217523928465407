"""python -m fusedmlp: the commands that need PyTorch."""

from __future__ import annotations

import sys

from .profile_cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
