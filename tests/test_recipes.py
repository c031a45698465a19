"""The recipes of CONTRIBUTING.md are followed on a copy of the package, and their tests pass there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
STEP = re.compile(
    r"(?:In `(?P<file>[^`]+)`, (?P<how>above|replace) `(?P<anchor>[^`]+)`(?: by)?|New file `(?P<new>[^`]+)`):\n\n"
    r"```\w+\n(?P<code>.*?)\n```",
    re.DOTALL,
)
TEST = re.compile(r"```python\n((?:(?!```).)*?\ndef test_.*?)\n```", re.DOTALL)


class Recipe(NamedTuple):
    """One recipe: the edits that it shows, and its test."""

    steps: list[re.Match[str]]
    test: str


def read_recipes() -> dict[str, Recipe]:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"<!-- recipe: (\w+) -->\n(.*?)<!-- end recipe -->", text, re.DOTALL)
    return {name: Recipe(list(STEP.finditer(body)), TEST.findall(body)[-1]) for name, body in found}


RECIPES = read_recipes()


def follow(step: re.Match[str], root: Path) -> None:
    """Make one edit in a copy of the package."""
    if step["new"]:
        (root / step["new"]).write_text(step["code"] + "\n")
        return
    file = root / step["file"]
    text = file.read_text()
    assert text.count(step["anchor"]) == 1, f"{step['file']} has not exactly one {step['anchor']!r}"
    above = f"{step['code']}\n{step['anchor']}"
    file.write_text(text.replace(step["anchor"], step["code"] if step["how"] == "replace" else above))


def test_there_is_a_recipe_for_each_extension() -> None:
    assert sorted(RECIPES) == ["augmentation", "command", "head", "loss", "metric", "optimizer"]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_edits_two_files_or_adds_a_named_choice(name: str) -> None:
    code = {step["file"] or step["new"] for step in RECIPES[name].steps if not (step["new"] or "").startswith("conf/")}
    assert 1 <= len(code) <= 2


def test_all_recipes_work_together(tmp_path: Path) -> None:
    for part in ("mask_lightning", "conf"):
        shutil.copytree(CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in RECIPES.values():
        for step in recipe.steps:
            follow(step, tmp_path)
    for name, recipe in RECIPES.items():
        (tmp_path / f"test_{name}.py").write_text(recipe.test + "\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "."]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RECIPES)} passed" in done.stdout
