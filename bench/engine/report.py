"""Results as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape


@dataclass
class Line:
    """One comparison: what, with which unit, how much here and in bare SQL, and the bound."""

    what: str
    unit: str
    tidegate: float
    bare: float
    bound: float

    @property
    def ratio(self) -> float:
        return self.tidegate / self.bare if self.bare else 0.0

    @property
    def verdict(self) -> str:
        return "ok" if self.ratio <= self.bound else "above"


def table(lines: list[Line]) -> str:
    rows = [("", "unit", "tidegate", "bare", "ratio", "bound", "")]
    for line in lines:
        rows.append(
            (
                line.what,
                line.unit,
                f"{line.tidegate:.1f}",
                f"{line.bare:.1f}",
                f"{line.ratio:.2f}",
                f"{line.bound:.2f}",
                line.verdict,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write(folder: Path, name: str, setting: dict[str, str], lines: list[Line]) -> None:
    """`name`.json and `name`.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [asdict(line) | {"ratio": round(line.ratio, 3)} for line in lines]
    text = json.dumps({"setting": setting, "results": found}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n")
    (folder / f"{name}.svg").write_text(_picture(setting, lines))


def _picture(setting: dict[str, str], lines: list[Line]) -> str:
    """A bar a line: its ratio to bare, with the bound as a stroke."""
    scale, left, height = 160, 330, 22
    parts = []
    for n, line in enumerate(lines):
        top = 40 + n * height
        colour = "#2a7f62" if line.verdict == "ok" else "#c46a1b"
        parts.append(
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(line.what)}</text>'
            f'<rect x="{left}" y="{top + 3}" width="{line.ratio * scale:.0f}" height="13"'
            f' fill="{colour}"/>'
            f'<line x1="{left + line.bound * scale:.0f}" x2="{left + line.bound * scale:.0f}"'
            f' y1="{top}" y2="{top + 19}" stroke="#333"/>'
            f'<text x="{left + line.ratio * scale + 6:.0f}" y="{top + 13}">{line.ratio:.2f}</text>'
        )
    title = f"Ratio to bare SQL; the stroke is the bound. {setting['server']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{60 + len(lines) * height}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/><text x="12" y="22">{escape(title)}</text>'
        + "".join(parts)
        + "</svg>\n"
    )
