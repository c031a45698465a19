"""A part of the fuzz; `make chaos` throws thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_fuzz import broken_photos, is_indexed, is_opened, whole_photos
from option_fuzz import COMMANDS, command_lines, is_taken


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_is_taken_or_refused_in_one_line(command: str) -> None:
    assert is_taken(command, COMMANDS[command][1])
    for line in command_lines(command, 30 if command == "train" else 6, seed=0):
        is_taken(command, line)


def test_the_same_seed_gives_the_same_lines() -> None:
    assert list(command_lines("vote", 5, seed=1)) == list(command_lines("vote", 5, seed=1))
    assert list(command_lines("vote", 5, seed=1)) != list(command_lines("vote", 5, seed=2))


@pytest.mark.parametrize("kind", whole_photos())
def test_a_whole_photo_is_opened(kind: str, tmp_path: Path) -> None:
    assert is_opened(whole_photos()[kind], tmp_path / "photo.jpg")


def test_a_broken_photo_is_opened_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = [is_opened(content, tmp_path / "photo.jpg") for _, content in broken_photos(300, seed=0)]
    assert 0.1 < sum(outcomes) / len(outcomes) < 0.9  # or the photos are not broken enough, or too much


def test_a_folder_is_indexed_or_refused(tmp_path: Path) -> None:
    outcomes = []
    for seed in range(120):
        (tmp_path / str(seed)).mkdir()
        outcomes.append(is_indexed(tmp_path / str(seed), seed))
    assert 0.05 < sum(outcomes) / len(outcomes) < 0.9
