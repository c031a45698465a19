"""`doctor` describes this machine, and names what is missing."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml

from mask_lightning.pipelines import doctor
from mask_lightning.pipelines.doctor import describe_installation, missing_packages
from mask_lightning.settings.evaluation import DoctorSettings

ROOT = Path(__file__).resolve().parent.parent
MISSING = {"wandb", "torch"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that lacks the packages in MISSING."""
    version: Callable[[str], str] = metadata.version

    def find(name: str) -> str:
        if name in MISSING:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", find)


def test_each_subject_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "photos.npy").write_bytes(b"0" * 20_000_000)
    text = describe_installation(DoctorSettings(outputs=tmp_path))
    heads = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
    assert heads == ["version", "system", "packages", "devices", "memory", "disk", "caches", "weights", "extras"]
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert f"photos: 1 files, 0.02 GB in {tmp_path / 'cache'}" in text
    assert "model=resnet34: " in text
    assert "GB free of" in text


@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_the_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    longest = max(map(len, describe_installation(DoctorSettings(outputs=tmp_path / "none")).splitlines()))
    assert longest <= width


def test_a_missing_extra_says_what_it_would_add(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert list(missing_packages("wandb")) == ["wandb"]
    text = describe_installation(DoctorSettings())
    assert "missing: wandb (logger=wandb), lacks wandb; pip install 'mask_lightning[wandb]'" in text
    assert "torch missing" in text


def test_every_extra_has_a_description() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == set(doctor.EXTRAS)


def test_bug_reports_ask_for_it() -> None:
    fields = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())["body"]
    asked = next(field for field in fields if field.get("id") == "doctor")
    assert asked["validations"]["required"]
    assert "python -m mask_lightning doctor" in asked["attributes"]["description"]
