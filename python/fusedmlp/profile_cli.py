"""The command line: python -m fusedmlp profile ..."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import NoReturn, Optional, Sequence

from .models import DTYPES, KINDS, ModelError, load, to_device

_EXAMPLES = """\
examples:
  python -m fusedmlp profile                                    a sentence encoder on real sentences
  python -m fusedmlp profile --model hf-geglu --out out/geglu   the MLP of a well-known blog post, bf16
  python -m fusedmlp profile --model mlp:swiglu:2048x5632,bf16 --tokens 1,16,256
  python -m fusedmlp profile --model my_model.py:make           make() returns (model, inputs)

Files written to --out: eager.trace.json, compiled.trace.json, fused.trace.json (open them in ui.perfetto.dev or
chrome://tracing; of the last token count where there are several), report.html (those traces analysed and
compared), profile.json, profile.txt.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help shows what is accepted)\n")


def _token_list(text: str) -> list[int]:
    try:
        tokens = [int(part) for part in text.split(",")]
    except ValueError:
        tokens = []
    if not tokens or any(count < 1 for count in tokens):
        raise argparse.ArgumentTypeError(
            f"got '{text}', accepted are numbers of 1 or more, such as 64 or 1,16,256"
        )
    return tokens


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}', accepted is a number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"got '{text}', accepted is a number of seconds above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m fusedmlp", description="Fused transformer MLPs: find it, fuse it, prove it."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    profile = commands.add_parser(
        "profile",
        help="run a model eager, under torch.compile and fused; print one table, write three traces",
        description="Runs a model eager, under torch.compile and fused, interleaved, on the same input, and prints "
        "one table.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = profile.add_argument
    add("--model", default="minilm", metavar="MODEL", help=f"{KINDS} (default: minilm)")
    add("--dtype", choices=list(DTYPES), help="default: the model's own (minilm fp32, hf-geglu bf16)")
    add(
        "--tokens",
        type=_token_list,
        metavar="N[,N...]",
        help="tokens of the input (default: the model's own)",
    )
    add("--threads", type=_positive, metavar="N", help="threads PyTorch may use (default: PyTorch's choice)")
    add(
        "--repeats",
        type=_positive,
        metavar="N",
        help="timed rounds (default: what fits into --seconds, 3 to 50)",
    )
    add("--seconds", type=_seconds, default=20.0, help="time budget for each variant (default: 20)")
    add("--no-compile", action="store_true", help="leave torch.compile out")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for traces, report.html, profile.json, profile.txt (default: out/MODEL)",
    )
    add(
        "--json", metavar="FILE", help="also write the JSON here; '-' is stdout, and the table goes to stderr"
    )
    return parser


def _default_folder(model: str) -> Path:
    return Path("out") / re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs a command. Returns 0; 1 when a fused variant failed; 2 for wrong input, after one line on stderr."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes notes of its own to stderr
    try:
        return _profile(options)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 2


def _profile(options: argparse.Namespace) -> int:
    import torch

    from .profile import profile_cases
    from .profile_ops import write_text
    from .profile_run import Options

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    sizes = options.tokens or [None]
    print(f"{options.model}: loading", file=sys.stderr, flush=True)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device: got cuda, but PyTorch sees no GPU here")
    cases = [
        to_device(load(options.model, dtype=options.dtype, tokens=tokens), options.device) for tokens in sizes
    ]
    folder = options.out or _default_folder(options.model)
    folder.mkdir(parents=True, exist_ok=True)
    measure = Options(options.repeats, options.seconds, not options.no_compile, folder)
    try:
        result = profile_cases(cases, measure, progress=True)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        # The model itself fails on this input: say so in one line, as for any other wrong input.
        first = next((line for line in str(error).splitlines() if line.strip()), "no message")
        raise ModelError(f"model: {options.model} does not run: {type(error).__name__}: {first}") from error
    text = json.dumps(result.to_dict(), indent=2)
    table = f"{result}" if result.report is None else f"{result}\n\nreport: {result.report}"
    if options.json == "-":
        print(table, file=sys.stderr)
        print(text)
    else:
        print(table)
        if options.json is not None:
            write_text(Path(options.json), text + "\n")
    print(f"\nfiles in {folder}: {', '.join(sorted(_written(result, folder)))}", file=sys.stderr)
    return 1 if result.failed else 0


def _written(result: object, folder: Path) -> list[str]:
    traces = [name for run in result.runs for name in run["traces"]]
    report = [] if result.report is None else [result.report.name]
    return [*traces, *report, "profile.json", "profile.txt"]
