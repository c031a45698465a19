"""The page shows every suspect, whatever it is called, and its ticks are lines that corrections take."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.inference.predictions import Predictions, no_targets
from mask_lightning.labels import AGE, MASK, LabelSpace
from mask_lightning.metrics.label_issues import Suspect, Suspects
from mask_lightning.reports import suspects_page

HOSTILE = "\"><script>alert(1)</script>'&"


class Tags(HTMLParser):
    """Start tags and their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> Tags:
    """Two of three suspects: a hostile person's age, one of whose photos is gone, and a photo of somebody's."""
    there = tmp_path / "normal.jpg"
    Image.new("RGB", (380, 500), "teal").save(there)
    age = Suspect(HOSTILE, "", (str(tmp_path / "gone.jpg"), str(there)), "<30", ">=60", 0.0125, 0.98)
    other = Suspect("listed last", "", (str(there),), "<30", ">=60", 0.2, 0.7)
    mask = Suspect("000007", "normal.jpg", (str(there),), "normal", "wear", 0.03, 0.97)
    found = [Suspects(MASK, False, 1680, 0.975, 1, (mask,)), Suspects(AGE, True, 240, 0.5, 9, (age, other))]
    space = LabelSpace((MASK, AGE))
    probs = {task.name: np.ones((1, task.num_classes), np.float32) / task.num_classes for task in space.tasks}
    photos = pd.DataFrame({"photo": ["x"], "path": ["x"], "person_id": ["x"]})
    said = Predictions(space, photos, probs, *no_targets(space, 1), ())
    suspects_page.save(tmp_path, found, said, shown=1)
    return Tags((tmp_path / "suspects.html").read_text())


def test_a_tick_is_a_line_of_corrections(page: Tags) -> None:
    lines = [json.loads(str(attributes["data-line"])) for tag, attributes in page.found if tag == "input"]
    assert lines == [["000007", "mask", "normal.jpg:wear"], [HOSTILE, "age_band", ">=60"]]


def test_names_are_text(page: Tags) -> None:
    assert len([tag for tag, _ in page.found if tag == "script"]) == 1  # our own
    assert HOSTILE in page.text


def test_suspects_are_shown_with_both_labels(page: Tags) -> None:
    text = " ".join(page.text.split())
    assert "labelled normal (3%), looks wear (97%)" in text
    assert "labelled <30 (1%), looks >=60 (98%)" in text
    assert "listed last" not in text
    assert "The first 1 of 2" in text
    assert "agree with only 50% of these labels" in text


def test_the_file_needs_no_other(page: Tags) -> None:
    sources = [str(attributes.get("src") or attributes.get("href") or "data:") for _, attributes in page.found]
    assert all(source.startswith(("data:", "#")) for source in sources)
    pictures = [attributes for tag, attributes in page.found if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ["normal.jpg", "normal.jpg"]
    assert "no photo there any more" in page.text
