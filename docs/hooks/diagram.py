"""Draw docs/images/packages.svg: the layers of .importlinter, with the first words of the table in architecture.md.

python docs/hooks/diagram.py    after a change of the layers
"""

from __future__ import annotations

import configparser
import html
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "packages.svg"
COLUMNS, WIDTH, HEIGHT, GAP, MARGIN = 2, 430, 52, 10, 16
TOP = ("train.py, predict.py, notebook.py, ...", "one short file per command; the Python API for notebooks")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#263238}.name{font-weight:600}.what{font-size:11px;fill:#546e7a}"
    "rect{fill:#fff;stroke:#b0bec5}.page{fill:#eceff1;stroke:none}.top{fill:#e0f2f1;stroke:#26a69a}"
    "path{stroke:#78909c;stroke-width:1.5;fill:none}"
)


def layers() -> list[list[str]]:
    """Return the packages from the top down; those of one layer do not import each other."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    lines = config["importlinter:contract:packages"]["layers"].strip().splitlines()
    return [[name.strip().removeprefix("mask_lightning.") for name in re.split(r"[|:]", line)] for line in lines]


def descriptions() -> dict[str, str]:
    """Return what each package contains, from the table of architecture.md, up to its first colon or semicolon."""
    found = {}
    for names, what in re.findall(r"^\| (`.*?) \| (.*) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE):
        packages = re.findall(r"`(\w+)(?:/|\.py)`", names)
        parts = re.split(r"[:;] ", what.replace("`", ""))
        for i, name in enumerate(packages):
            found.setdefault(name, parts[min(i, len(parts) - 1)])
    return found


def svg() -> str:
    """Return the picture: a box per package, a row per layer."""
    known, rows = descriptions(), [[TOP], *([(name, "") for name in layer] for layer in layers())]
    width = 2 * MARGIN + COLUMNS * WIDTH + GAP
    height = 2 * MARGIN + len(rows) * (HEIGHT + GAP) - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
    ]
    for i, row in enumerate(rows):
        y = MARGIN + i * (HEIGHT + GAP)
        each = (width - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        for j, (name, text) in enumerate(row):
            x, what = MARGIN + j * (each + GAP), text or known.get(name, "")
            most = int(each / 6.1)
            what = what if len(what) <= most else what[: what.rfind(" ", 0, most - 4)].rstrip(",") + " ..."
            parts.append(f'<rect{"" if i else TOP} x="{x:.0f}" y="{y}" width="{each:.0f}" height="{HEIGHT}" rx="4"/>')
            parts.append(f'<text class="name" x="{x + 12:.0f}" y="{y + 21}">{html.escape(name)}</text>')
            parts.append(f'<text class="what" x="{x + 12:.0f}" y="{y + 39}">{html.escape(what)}</text>')
        if i:
            parts.append(f'<path d="M{width / 2:.0f} {y - GAP}v{GAP}"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
