"""What fuse() did, for people and for programs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Optional


@dataclass(frozen=True)
class Replaced:
    """One MLP that now runs fused."""

    path: str  # of the module, "" for the model itself; of a stretch: with its children, "net[0:3]"
    cls: str
    spec: str  # as MlpSpec writes it: "geglu:768x3072,bf16"
    extra_bytes: int  # of its packed copy
    packed: bool  # False: over max_extra_bytes, runs without a packed copy
    error_fused: Optional[float] = None  # self-check: relative error against fp64; None without a check
    error_original: Optional[float] = None
    note: str = ""
    also: tuple[str, ...] = ()  # other paths of the same module


@dataclass(frozen=True)
class Skipped:
    """One module that looks like an MLP and was left alone."""

    path: str
    cls: str
    reason: str


@dataclass
class FuseReport:
    """The result of fuse(): print it, read it, or undo() it."""

    replaced: list[Replaced] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # modules, linears, linears_fused
    max_extra_bytes: Optional[int] = None
    _undo: Optional[Callable[[], None]] = field(default=None, repr=False, compare=False)

    @property
    def extra_bytes(self) -> int:
        """Bytes of packed copies made by this fuse()."""
        return sum(entry.extra_bytes for entry in self.replaced)

    def undo(self) -> None:
        """Gives every module its class back and drops its packed copies. A second call does nothing."""
        if self._undo is not None:
            self._undo()
            self._undo = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as json() writes them."""
        return {
            "replaced": [{**vars(entry), "also": list(entry.also)} for entry in self.replaced],
            "skipped": [dict(vars(entry)) for entry in self.skipped],
            "counts": dict(self.counts),
            "extra_bytes": self.extra_bytes,
            "max_extra_bytes": self.max_extra_bytes,
        }

    def json(self, indent: Optional[int] = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        lines = [self._summary()]
        if self.replaced:
            groups = _grouped(self.replaced, lambda e: (e.cls, e.spec, e.packed, e.note, bool(e.also)))
            checked = any(entry.error_fused is not None for entry in self.replaced)
            header = ["fused", "", "class", "MLP", "extra memory"]
            header += ["error against fp64: fused", "original"] if checked else []
            rows = [header]
            notes = []
            for path, group in groups:
                entry = group[0]
                bytes_text = format_bytes(sum(e.extra_bytes for e in group)) if entry.packed else "not packed"
                row = [path, _times(group), entry.cls, entry.spec, bytes_text]
                row += (
                    [_worst(e.error_fused for e in group), _worst(e.error_original for e in group)]
                    if checked
                    else []
                )
                rows.append(row)
                if entry.note:
                    notes.append(f"  {path}: {entry.note}")
                if entry.also:
                    notes.append(f"  {path}: the same module as {', '.join(entry.also)}")
            lines += ["", *_table(rows), *notes]
        if self.skipped:
            rows = [["left alone", "", "class", "reason"]]
            for path, group in _grouped(self.skipped, lambda e: (e.cls, e.reason)):
                rows.append([path, _times(group), group[0].cls, group[0].reason])
            lines += ["", *_table(rows)]
        return "\n".join(lines)

    def _summary(self) -> str:
        if not self.replaced:
            return "fusedmlp: nothing was fused" + ("" if self.skipped else ": no MLP was found")
        linears = f"{self.counts.get('linears_fused', 0)} of {self.counts.get('linears', 0)} Linears"
        text = f"fusedmlp: {_plural(len(self.replaced), 'MLP')} fused ({linears})"
        text += f", {_plural(len(self.skipped), 'module')} left alone" if self.skipped else ""
        text += f"; extra memory {format_bytes(self.extra_bytes)}"
        unpacked = sum(not entry.packed for entry in self.replaced)
        if self.max_extra_bytes is not None:
            text += f" of at most {format_bytes(self.max_extra_bytes)}"
        if unpacked:
            text += f", {unpacked} without a packed copy to stay within it"
        return text


def format_bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _times(group: list) -> str:
    return f"x{len(group)}" if len(group) > 1 else ""


def _worst(errors: Iterable[Optional[float]]) -> str:
    known = [error for error in errors if error is not None]
    return f"{max(known):.1e}" if known else "-"


_NUMBER = re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$|\[)")


def _grouped(entries: list, same: Callable[[Any], tuple]) -> list[tuple[str, list]]:
    """Entries that differ only in the numbers of their path, as one line: "encoder.layer.{0..5}"."""
    groups: dict[tuple, list] = {}
    for entry in entries:
        groups.setdefault((_NUMBER.sub("#", entry.path), *same(entry)), []).append(entry)
    return [(_path_text([entry.path for entry in group]), group) for group in groups.values()]


def _path_text(paths: list[str]) -> str:
    columns = [sorted({int(number) for number in numbers}) for numbers in zip(*map(_NUMBER.findall, paths))]
    texts = iter([_range_text(column) for column in columns])
    text = _NUMBER.sub(lambda match: next(texts), paths[0])
    return f"(the model){text}" if not text or text.startswith("[") else text


def _range_text(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    shown = [str(number) for number in (numbers if len(numbers) <= 6 else [*numbers[:5], "..."])]
    return f"{{{','.join(shown)}}}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
