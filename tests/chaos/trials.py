"""Trials of the harms: runs of seconds, and whether they end as they should."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

PATIENCE = 1200  # seconds for one run of a tiny network on a machine that has other things to do
TINY = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "model.image_size=32",
    "data.num_workers=1",
    "data.clean_train_photos=28",
    "finetune=none",
    "finetune.epochs=6",
    "logger=none",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


@dataclass(frozen=True)
class Place:
    """Folders of a harm, and how often it is tried.

    Attributes:
        folder: empty, for each harm its own.
        photos: labelled photos that all share.
        times: of harms that cost a training.
        lines: command lines of the fuzz; of the cheaper files it takes twice as many.
        rng: draws the moments.
    """

    folder: Path
    photos: Path
    times: int
    lines: int
    rng: random.Random


Harm = Callable[[Place], Iterator[bool]]  # yields for each trial whether it was survived


def train(run: Path, *options: str, largest_file: int | None = None, command: str = "train") -> subprocess.Popen[str]:
    """Start a training of a few seconds, or another command."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(
        [sys.executable, "-m", f"mask_lightning.{command}", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


def new_run(place: Place, name: str, *options: str, photos: Path | None = None) -> tuple[Path, list[str]]:
    """A run's folder and its command line; what is prepared of the photos is shared."""
    run = place.folder / name
    places = (f"data.root={photos or place.photos}", f"outputs={place.folder}", f"hydra.run.dir={run}")
    return run, [*TINY, *places, f"data.cache_dir={place.photos.parent / 'cache'}", *options]


def wait_for(process: subprocess.Popen[str], found: Callable[[], object]) -> None:
    """Wait until it is found. Raises TimeoutError after PATIENCE seconds, EOFError if the process has ended before."""
    end = monotonic() + PATIENCE
    while not found():
        if process.poll() is not None and not found():
            raise EOFError(f"the process ended too early, with exit code {process.returncode}")
        if monotonic() > end:
            raise TimeoutError
        sleep(0.02)


def status(run: Path) -> str:
    """Return the status in the record of the run."""
    return str(json.loads((run / "result.json").read_text())["status"])


def are_whole(run: Path) -> bool:
    """Return True if all checkpoints can be read, and the one to resume from exists."""
    from mask_lightning.engine.checkpoint_files import read_checkpoint

    return (
        all(read_checkpoint(path) for path in run.glob("checkpoints/*.ckpt"))
        and (run / "checkpoints/last.ckpt").exists()
    )


def goes_on(run: Path) -> bool:
    """Return True if the run finishes from its last checkpoint."""
    resumed = train(run, f"resume={run}")
    said = resumed.communicate(timeout=PATIENCE)[1]
    return is_right(resumed, resumed.returncode == 0 and status(run) == "finished" and are_whole(run), said)


def tells(process: subprocess.Popen[str], *parts: str) -> bool:
    """Return True if a process ends by itself with exit code 2 and one line of error with these parts."""
    said = process.communicate(timeout=PATIENCE)[1]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    told = len(errors) == 1 and all(part in errors[0] for part in parts)
    return is_right(process, process.returncode == 2 and told and "Traceback" not in said, said)


def is_right(process: subprocess.Popen[str], right: bool, said: str) -> bool:
    """Return `right`; if False, print the output of the process."""
    if not right:
        print(f"exit code {process.returncode}: {said[-8000:]}", file=sys.stderr)
    return right
