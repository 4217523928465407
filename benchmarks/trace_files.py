"""Traces of any size, made of a real one: its events again and again, each time later and with new ids."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Iterator

# Fields that move on with each repetition; the rest of an event stays as it is.
_MOVING = re.compile(
    rb'("ts": |"External id": |"correlation": |"id": |"Ev Idx": |"Sequence number": )(\d+)(\.\d+)?'
)


def repeated(trace: Path, size: int) -> Iterator[bytes]:
    """Pieces of the text of a trace of about `size` bytes, whose events are those of `trace` repeated."""
    text = gzip.decompress(trace.read_bytes()) if trace.suffix == ".gz" else trace.read_bytes()
    begin = text.index(b'"traceEvents": [') + len(b'"traceEvents": [')
    end = text.rindex(b"]")
    head, events, tail = text[:begin], text[begin:end].strip(), text[end:]
    times = [int(value) for value in re.findall(rb'"ph": "X"[^{]*?"ts": (\d+)', events)]
    step = {b'"ts": ': max(times) - min(times) + 1000}
    pieces: list[bytes] = []
    numbers: list[tuple[int, int]] = []
    at = 0
    for match in _MOVING.finditer(events):
        pieces.append(events[at : match.start(2)])
        numbers.append((int(match[2]), step.get(match[1], 100_000)))
        at = match.end(2)
    rest = events[at:]
    yield head + b"\n  "
    written = len(head)
    for round_ in range(1 << 30):
        out = bytearray(b",\n  " if round_ else b"")
        for piece, (first, by) in zip(pieces, numbers):
            out += piece
            out += b"%d" % (first + by * round_)
        out += rest
        yield bytes(out)
        written += len(out)
        if written >= size:
            break
    yield b"\n" + tail


def write_plain(trace: Path, path: Path, size: int) -> None:
    with path.open("wb") as file:
        for piece in repeated(trace, size):
            file.write(piece)


def write_gzip(trace: Path, path: Path, size: int) -> None:
    """As write_plain, but until the compressed file has about `size` bytes (zlib's default level)."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        pieces = repeated(trace, 1 << 60)
        last = b"\n]}"
        for piece in pieces:
            file.write(packer.compress(piece))
            if file.tell() >= size:
                break
        file.write(packer.compress(last) + packer.flush())
