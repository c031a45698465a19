"""Names in a table lead to files below its folder, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask_lightning.data.paths import missing_files, path_inside
from mask_lightning.errors import SampleTableError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "faces-other").mkdir()
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "away").symlink_to(tmp_path / "faces-other")
    (root / "in.jpg").symlink_to(root / "a" / "1.jpg")
    return root


@pytest.mark.parametrize("name", ["a/1.jpg", "./a/1.jpg", "a/../a/1.jpg", "in.jpg", "{root}/a/1.jpg"])
def test_paths_inside_are_resolved(root: Path, name: str) -> None:
    assert path_inside(root, name.format(root=root)) == root.resolve() / "a" / "1.jpg"


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "out.jpg", "away/x.jpg", "../faces-other/x.jpg", ".."],
)
def test_paths_that_leave_are_refused(root: Path, name: str) -> None:
    with pytest.raises(SampleTableError, match=r"expected a path inside .*faces, found .*set data.root"):
        path_inside(root, name)


def test_a_path_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(SampleTableError, match="expected a path"):
        path_inside(root, "a\0.jpg")


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert path_inside(tmp_path / "link", "a/1.jpg") == root.resolve() / "a" / "1.jpg"


def test_missing_files_are_those_that_are_no_files(root: Path) -> None:
    assert missing_files([root / "a" / "1.jpg", root / "a", root / "2.jpg"]) == [root / "a", root / "2.jpg"]
