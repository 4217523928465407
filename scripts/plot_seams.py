"""Draws what `fusedmlp_bench_gpu_kernels --seams FILE` measured: time against tokens, a line an entry, as SVG.

Usage: plot_seams.py SEAMS.json... OUT.svg     several files: their MLPs side by side
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT, COLUMNS = 420, 300, 2  # of a panel; panels in a row
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 56
COLOURS = ("#2166ac", "#ef8a00", "#4d9221", "#b2182b", "#762a83", "#01665e", "#8c510a", "#c51b7d", "#888888")
STRIP = 8  # height of the line that says which entry dispatch takes


def colour(name: str, names: list[str]) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


class Panel:
    """One MLP: both axes logarithmic."""

    def __init__(self, result: dict[str, Any], x: float, y: float, names: list[str]) -> None:
        self.points, self.names, self.title = result["points"], names, result["spec"]
        times = [us for point in self.points for us in point["us"].values()]
        self.x, self.y = x, y
        self.tokens = (self.points[0]["tokens"], self.points[-1]["tokens"])
        self.times = (min(times) * 0.9, max(times) * 1.1)

    def at(self, tokens: float, us: float) -> tuple[float, float]:
        def share(value: float, ends: tuple[float, float]) -> float:
            return math.log(value / ends[0]) / math.log(ends[1] / ends[0])

        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        across, up = share(tokens, self.tokens) * width, share(us, self.times) * height
        return self.x + LEFT + across, self.y + TOP + height - up

    def grid(self) -> list[str]:
        out = [f'<text x="{self.x + LEFT}" y="{self.y + 18}" class="title">{escape(self.title)}</text>']
        for power in range(13):
            tokens = 2**power
            if self.tokens[0] <= tokens <= self.tokens[1]:
                x, bottom = self.at(tokens, self.times[0])
                out.append(f'<path class="grid" d="M{x:.1f} {self.y + TOP}V{bottom:.1f}"/>')
                out.append(f'<text x="{x:.1f}" y="{bottom + 14 + STRIP:.1f}" class="mid">{tokens}</text>')
        for decade in range(6):
            for step in (1, 2, 5):
                us = step * 10**decade
                if self.times[0] <= us <= self.times[1]:
                    x, y = self.at(self.tokens[0], us)
                    out.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{self.x + WIDTH - RIGHT}"/>')
                    out.append(f'<text x="{x - 5:.1f}" y="{y + 4:.1f}" class="end">{us}</text>')
        return out

    def lines(self) -> list[str]:
        out = []
        for name in self.names:
            path, drawing = [], False
            for point in self.points:
                if name not in point["us"]:
                    drawing = False
                    continue
                x, y = self.at(point["tokens"], point["us"][name])
                # A point without neighbours is a line without length, whose round ends show.
                path.append(f'L{x:.1f} {y:.1f}' if drawing else f'M{x:.1f} {y:.1f}h0')
                drawing = True
            if path:
                out.append(f'<path class="line" stroke="{colour(name, self.names)}" d="{"".join(path)}"/>')
        return out

    def strip(self) -> list[str]:
        """Below the axis: the entry that dispatch takes, in its colour."""
        out = []
        edges = [math.sqrt(a["tokens"] * b["tokens"]) for a, b in zip(self.points, self.points[1:])]
        edges = [self.tokens[0], *edges, self.tokens[1]]
        begin = 0
        for i, point in enumerate(self.points):
            if i + 1 < len(self.points) and self.points[i + 1]["chosen"] == point["chosen"]:
                continue
            left, top = self.at(edges[begin], self.times[0])
            right, _ = self.at(edges[i + 1], self.times[0])
            fill = colour(point["chosen"], self.names)
            out.append(
                f'<rect x="{left:.1f}" y="{top + 2:.1f}" width="{right - left:.1f}" height="{STRIP}" fill="{fill}"/>'
            )
            begin = i + 1
        return out


def draw(files: list[dict[str, Any]]) -> str:
    results = [result for file in files for result in file["results"]]
    names = sorted({name for result in results for point in result["points"] for name in point["us"]})
    rows = math.ceil(len(results) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 48
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        "<style>.title{font-size:13px;font-weight:bold}.mid{text-anchor:middle}.end{text-anchor:end}"
        ".grid{stroke:#ddd;stroke-width:.6}.line{fill:none;stroke-width:1.6;stroke-linecap:round}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, result in enumerate(results):
        panel = Panel(result, i % COLUMNS * WIDTH, i // COLUMNS * HEIGHT, names)
        out += panel.grid() + panel.strip() + panel.lines()
    x = LEFT
    for name in names:
        y = rows * HEIGHT + 12
        out.append(f'<rect x="{x}" y="{y - 9}" width="14" height="10" fill="{colour(name, names)}"/>')
        out.append(f'<text x="{x + 19}" y="{y}">{escape(name)}</text>')
        x += 120
    first = files[0]
    out.append(
        f'<text x="{LEFT}" y="{rows * HEIGHT + 34}">us against tokens; {escape(first["device"])}, fusedmlp '
        f'{escape(first["version"])}, {escape(first["date"][:10])}; CUDA graphs, cold weights. '
        "Below each axis: what dispatch takes.</text>"
    )
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    files = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:-1]]
    Path(sys.argv[-1]).write_text(draw(files), encoding="utf-8")


if __name__ == "__main__":
    main()
