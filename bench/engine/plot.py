"""The run as one SVG: what a message costs beside bare, and what a claim costs while pinned."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.engine import life, pinned, report

WIDTH, HEIGHT = 940, 400
_TOP, _BOTTOM = 60, 320
_SHADES = {"put": "#9fb8c8", "claim": "#3f7fa6", "settle": "#1d3f56"}
_LINES = ("#1d3f56", "#3f7fa6", "#c2693d", "#7a8f3c")


def svg(lives: list[life.Result], pins: list[pinned.Result], caption: str) -> str:
    """Left: CPU of a message by phase, bare = 1, a red mark at each bound. Right: pinned runs."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(_bars(lives, 50, 440) if lives else ()),
        *(_curves(pins, 540, 920) if pins else ()),
        _text(WIDTH / 2, HEIGHT - 8, caption, fill="#555"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bars(lives: list[life.Result], left: float, right: float) -> Iterator[str]:
    yield _text((left + right) / 2, 20, "CPU of a message, bare = 1", size=14)
    names = list(lives[0].samples)
    top = max(
        *(result.ratio(name, lambda s: s.life) for result in lives for name in names),
        *report.CPU.values(),
    )
    scale = (_BOTTOM - _TOP) / (top * 1.05)
    yield from _axis(left, right, top, scale)
    step = (right - left) / len(lives)
    width = step * 0.8 / len(names)
    for index, result in enumerate(lives):
        for place, name in enumerate(names):
            x = left + step * (index + 0.1) + width * place
            yield from _bar(result, name, x, width * 0.9, scale)
            middle = x + width * 0.45
            yield _text(middle, _BOTTOM + 14, name, size=9)
        bound = report.CPU.get(result.batch)
        if bound:
            y = _BOTTOM - bound * scale
            yield _line(left + step * index + 4, y, left + step * (index + 1) - 4, y, "#c0392b")
        yield _text(left + step * (index + 0.5), _BOTTOM + 32, f"batch {result.batch}")
    for place, (phase, shade) in enumerate(_SHADES.items()):
        x = left + 10 + 70 * place
        yield f'<rect x="{x}" y="32" width="10" height="10" fill="{shade}"/>'
        yield _text(x + 15, 41, phase, anchor="start")
    yield _line(left + 225, 37, left + 245, 37, "#c0392b")
    yield _text(left + 250, 41, "bound", anchor="start")


def _bar(result: life.Result, name: str, x: float, width: float, scale: float) -> Iterator[str]:
    whole = result.median(name, lambda s: s.life)
    if not whole:
        return
    height = result.ratio(name, lambda s: s.life) * scale
    y = float(_BOTTOM)
    for phase, shade in _SHADES.items():
        share = result.phase(name, phase) / whole * height
        y -= share
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{share:.1f}"'
            f' fill="{shade}"/>'
        )
    yield _text(x + width / 2, y - 4, f"{height / scale:.2f}", size=10)


def _curves(pins: list[pinned.Result], left: float, right: float) -> Iterator[str]:
    yield _text((left + right) / 2, 20, "CPU of a claim of 100 in µs, ticks included", size=14)
    top = max(max(pin.cpu) for pin in pins) or 1.0
    scale = (_BOTTOM - _TOP) / (top * 1.05)
    yield from _axis(left, right, top, scale)
    last = pins[0].consumed[-1]
    for index, pin in enumerate(pins):
        points = " ".join(
            f"{left + count / last * (right - left):.1f},{_BOTTOM - cpu * scale:.1f}"
            for count, cpu in zip(pin.consumed, pin.cpu, strict=True)
        )
        colour = _LINES[index % len(_LINES)]
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>'
        x, y = left + 190 * (index % 2), 37 + 14 * (index // 2)
        yield _line(x, y, x + 16, y, colour)
        yield _text(x + 20, y + 4, f"{pin.obstacle} ×{pin.ratio:.2f}", anchor="start", size=11)
    yield _text(right, _BOTTOM + 14, f"{last} messages consumed", anchor="end")


def _axis(left: float, right: float, top: float, scale: float) -> Iterator[str]:
    yield _line(left, _BOTTOM, right, _BOTTOM, "#333")
    step = next(
        size
        for power in range(-1, 9)
        for size in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if top / size <= 8
    )
    for mark in range(int(top / step) + 1):
        y = _BOTTOM - mark * step * scale
        yield _line(left, y, right, y, "#e4e4e4")
        yield _text(left - 6, y + 4, f"{mark * step:g}", anchor="end", size=10)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        ' stroke-width="1.2"/>'
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "middle", size: int = 12, fill: str = "#222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="{fill}">{escape(words)}</text>'
    )
