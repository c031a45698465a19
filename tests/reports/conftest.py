"""Access to the texts that a figure really draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure

from mask_lightning.reports.figures import to_png


@dataclass(frozen=True)
class DrawnTexts:
    """Texts of a rendered figure: shown as they are, and parsed as mathematics."""

    literal: tuple[str, ...]
    math: tuple[str, ...]


@pytest.fixture
def draw_texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], DrawnTexts]:
    """Render a figure and return its texts."""
    drawn: list[tuple[str, bool]] = []
    draw_text = RendererAgg.draw_text

    def record(self: RendererAgg, gc: Any, x: float, y: float, text: str, *args: Any, **kwargs: Any) -> None:
        is_math = bool(kwargs["ismath"] if "ismath" in kwargs else args[2])
        drawn.append((text, is_math))
        draw_text(self, gc, x, y, text, *args, **kwargs)

    monkeypatch.setattr(RendererAgg, "draw_text", record)

    def draw(figure: Figure) -> DrawnTexts:
        drawn.clear()
        assert to_png(figure, dpi=40).startswith(b"\x89PNG")
        return DrawnTexts(*(tuple(text for text, is_math in drawn if is_math == kind) for kind in (False, True)))

    return draw
