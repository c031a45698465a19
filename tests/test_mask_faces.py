"""The command `mask_faces`, run in a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def run_mask_faces(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mask_lightning.mask_faces", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=fairfaces"], "data=fairfaces is not one of the choices; did you mean fairface"),
        (["data=fairface", "data.root=nowhere", "out=new"], "expected fairface_label_train.csv"),
        (["data=utkface", "data.root=."], "mask_faces needs out"),
        (["data=utkface", "data.root=.", "out=new", "crop=wide"], "crop must be"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run_mask_faces(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples_and_options(tmp_path: Path) -> None:
    done = run_mask_faces(tmp_path, "--help")
    assert done.returncode == 0
    for part in ("data=fairface data.root=FAIRFACE out=faces", "max_yaw=35.0", "data.limit_people"):
        assert part in done.stdout


@pytest.mark.fairmask
@pytest.mark.slow
def test_masks_are_drawn_on_real_faces(fairmask: Path, tmp_path: Path) -> None:
    done = run_mask_faces(
        tmp_path, "data=competition", f"data.root={fairmask}", "out=new", "data.limit_people=2", "workers=2"
    )
    assert done.returncode == 0, done.stderr
    assert "next:    python -m mask_lightning.train data.root=new" in done.stderr
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["left_out.csv", "provenance.csv", "train"]
