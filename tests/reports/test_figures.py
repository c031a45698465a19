"""Shared parts of the reports: names in figures, and text formatting."""

from __future__ import annotations

import math

import pytest

from mask_lightning.reports.figures import count, join, literal, new_figure, number, percent


@pytest.mark.parametrize("name", ["$x^2$ 100$", "$x_{$", "$\\frac$", "a $5 and a $6", "\\$", "$", "100%"])
def test_a_name_is_shown_literally_everywhere(draw_texts, name: str) -> None:
    figure = new_figure(4, 4)
    axes = figure.add_subplot(title=literal(name), xlabel=literal(name))
    axes.set_xticks([0, 1], [literal(name), literal(f"{name} 2")])
    axes.plot([0, 1], label=literal(name))
    axes.legend()
    drawn = draw_texts(figure)
    assert drawn.literal.count(name) == 4  # title, axis label, tick label, legend
    assert f"{name} 2" in drawn.literal
    assert drawn.math == ()


def test_a_log_axis_has_formatted_powers(draw_texts) -> None:
    figure = new_figure(3, 3)
    axes = figure.add_subplot(yscale="log", title=literal("$x^2$ 100$"))
    axes.plot([1e-5, 1e-1])
    drawn = draw_texts(figure)
    assert any("10^{-3}" in text for text in drawn.math)
    assert not any("mathdefault" in text for text in drawn.literal)
    assert "$x^2$ 100$" in drawn.literal


@pytest.mark.parametrize(
    ("share", "want"),
    [(0, "0%"), (1, "100%"), (0.534, "53%"), (0.998, "99.8%"), (0.9999, "99.9%"), (0.0001, "0.1%"), (0.004, "0.4%")],
)
def test_nearly_all_is_not_all(share: float, want: str) -> None:
    assert percent(share) == want


@pytest.mark.parametrize(
    ("value", "want"), [(0.50651, ".507"), (1.0, "1.000"), (0.0, ".000"), (None, "–"), (math.nan, "–")]
)
def test_scores(value: float | None, want: str) -> None:
    assert number(value) == want


def test_counts_and_lists() -> None:
    assert [count(1, "person"), count(2, "person"), count(1, "photo"), count(2000, "photo")] == [
        "1 person",
        "2 people",
        "1 photo",
        "2,000 photos",
    ]
    assert [join(["a"]), join(["a", "b"]), join(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
