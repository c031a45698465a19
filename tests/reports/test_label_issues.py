"""HTML page of `suspects`."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.labels import AGE, MASK, LabelSpace
from mask_lightning.metrics.label_issues import LabelIssue, LabelIssues
from mask_lightning.metrics.predictions import Predictions, no_targets
from mask_lightning.reports import label_issues

HOSTILE = "\"><script>alert(1)</script>'&"


class Tags(HTMLParser):
    """Start tags with their attributes, and the text."""

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
    """Page with two of three issues: the age of a person whose id is markup and who lacks a photo, and one photo."""
    there = tmp_path / "normal.jpg"
    Image.new("RGB", (380, 500), "teal").save(there)
    age = LabelIssue(HOSTILE, "", (str(tmp_path / "gone.jpg"), str(there)), "<30", ">=60", 0.0125, 0.98)
    other = LabelIssue("listed last", "", (str(there),), "<30", ">=60", 0.2, 0.7)
    mask = LabelIssue("000007", "normal.jpg", (str(there),), "normal", "wear", 0.03, 0.97)
    found = [LabelIssues(MASK, False, 1680, 0.975, 1, (mask,)), LabelIssues(AGE, True, 240, 0.5, 9, (age, other))]
    space = LabelSpace((MASK, AGE))
    probs = {task.name: np.ones((1, task.num_classes), np.float32) / task.num_classes for task in space.tasks}
    photos = pd.DataFrame({"photo": ["x"], "path": ["x"], "person_id": ["x"]})
    predictions = Predictions(space, photos, probs, *no_targets(space, 1), ())
    label_issues.save(tmp_path, found, predictions, shown=1)
    return Tags((tmp_path / "suspects.html").read_text())


def test_every_checkbox_holds_a_line_of_corrections(page: Tags) -> None:
    lines = [json.loads(str(attributes["data-line"])) for tag, attributes in page.found if tag == "input"]
    assert lines == [["000007", "mask", "normal.jpg:wear"], [HOSTILE, "age_band", ">=60"]]


def test_names_are_escaped(page: Tags) -> None:
    assert len([tag for tag, _ in page.found if tag == "script"]) == 1  # our own
    assert HOSTILE in page.text


def test_issues_are_shown_with_both_labels(page: Tags) -> None:
    text = " ".join(page.text.split())
    assert "labelled normal (3%), predicted wear (97%)" in text
    assert "labelled <30 (1%), predicted >=60 (98%)" in text
    assert "listed last" not in text
    assert "The first 1 of 2" in text
    assert "agree with only 50% of these labels" in text


def test_the_page_is_self_contained(page: Tags) -> None:
    sources = [str(attributes.get("src") or attributes.get("href") or "data:") for _, attributes in page.found]
    assert all(source.startswith(("data:", "#")) for source in sources)
    pictures = [attributes for tag, attributes in page.found if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ["normal.jpg", "normal.jpg"]
    assert "photo not found" in page.text
