"""A line plot with two logarithmic axes, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 60
SIZE = f'width="{WIDTH}" height="{HEIGHT}"'
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def log_plot(title: str, across: str, up: str, lines: Mapping[str, Points], ticks: Mapping[float, str]) -> str:
    """The plot of some lines; `ticks` are labelled places on the horizontal axis."""
    x0, x1 = log10(min(ticks)), log10(max(ticks))
    values = [log10(y) for points in lines.values() for _, y in points]
    y0, y1 = floor(min(values)), ceil(max(values))

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log10(value) - x0) / (x1 - x0)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (log10(value) - y0) / (y1 - y0)

    def parts() -> Iterator[str]:
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        yield text(LEFT, 24, title, size=15, anchor="start")
        yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, across)
        yield text(18, (TOP + HEIGHT - BOTTOM) / 2, up, turn=True)
        for value, label in ticks.items():
            yield line(x(value), TOP, x(value), HEIGHT - BOTTOM)
            yield text(x(value), HEIGHT - BOTTOM + 20, label)
        digits = (1, 2, 5) if y1 - y0 < 4 else (1,)
        for value in (digit * 10.0**power for power in range(y0, y1 + 1) for digit in digits):
            if log10(value) <= y1:
                yield line(LEFT, y(value), WIDTH - RIGHT, y(value))
                yield text(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end")
        for number, (colour, (name, points)) in enumerate(zip(COLOURS, lines.items(), strict=False)):
            places = [(f"{x(a):.1f}", f"{y(b):.1f}") for a, b in points]
            path = " ".join(f"{a},{b}" for a, b in places)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            for a, b in places:
                yield f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colour}"/>'
            row = TOP + 20 * number + 10
            yield f'<circle cx="{WIDTH - RIGHT + 16}" cy="{row}" r="4" fill="{colour}"/>'
            yield text(WIDTH - RIGHT + 26, row + 4, name, anchor="start")
        yield "</svg>\n"

    return "\n".join(parts())


def grid(plots: Sequence[str], columns: int = 2) -> str:
    """Plots side by side in one picture."""
    rows = -(-len(plots) // columns)
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}">'
    placed = (
        plot.replace("<svg ", f'<svg x="{number % columns * WIDTH}" y="{number // columns * HEIGHT}" {SIZE} ', 1)
        for number, plot in enumerate(plots)
    )
    return "".join((begin, "\n", *placed, "</svg>\n"))


def line(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#dddddd"/>'


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "middle", turn: bool = False) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turned}>{words}</text>'
