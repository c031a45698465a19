"""The folder of one run: its files, its lock, and its record result.json."""

from __future__ import annotations

import errno
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from mask_lightning.errors import RunFolderError
from mask_lightning.utils.files import hold, is_held, write_atomically, write_json

UNWRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
)

Status = Literal["running", "finished", "pruned", "failed", "interrupted"]


def new_run_name() -> str:
    """Return a name for a run's folder: timestamp plus a random suffix."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunResult:
    """The record in result.json, which describes a run without its checkpoint.

    Attributes:
        status: "running" also after the machine or the process was killed; "pruned" if a search ended the run early.
        monitor: the metric that selects best.ckpt.
        overrides: options as typed.
        best: metric -> value of best.ckpt; NaN is stored as null.
        best_epoch: epoch of best.ckpt, counted from 1.
        last: metric -> value after the last validation; NaN is stored as null.
        seconds: wall time, including the parts before a resume.
        photos_per_second: training photos, without validation.
        weights: origin of the backbone's weights.
        pretrained: the run or file of `model.pretrained=PATH`: its hash, what was loaded, what it was trained on, and
            the same of the run before it; {} without.
        probe: of `finetune.probe`: `strengths` (task -> C) and `scores` of its cross-validation; {} without.
        parameters: number of the network's parameters.
        data: root, fingerprint, people and photos per side.
        versions: of Python and the libraries.
        error: message of a failed run.
        lr: learning rate found by the range test of optim.lr=auto.
        config_hash: hash of the options that define the run, see `settings.identity`; "" in older records.
        score_of: what val/f1 scores: "joint", "mean of the tasks" or the only task; "" in older records.
    """

    status: Status
    monitor: str
    overrides: list[str] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    last: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    photos_per_second: float = 0.0
    weights: str = ""
    pretrained: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    lr: float | None = None
    config_hash: str = ""
    score_of: str = ""

    @property
    def score(self) -> float | None:
        """The monitored metric of the best checkpoint; None if there is none."""
        return self.best.get(self.monitor)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def result(self) -> Path:
        """The record of the run."""
        return self.path / "result.json"

    @property
    def metrics(self) -> Path:
        """The metrics, one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def split(self) -> Path:
        """One row per labelled photo, with its side of the split."""
        return self.path / "split.csv"

    @property
    def extra(self) -> Path:
        """One row per photo of `data.extra`; missing if there are none."""
        return self.path / "extra.csv"

    @property
    def best(self) -> Path:
        """The checkpoint to predict with."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def calibration(self) -> Path:
        """The temperatures of best.ckpt; missing if none were fitted."""
        return self.path / "checkpoints" / "calibration.json"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    def claim(self, config: Mapping[str, Any], result: RunResult) -> None:
        """Create config and record of a new run, and the folder if necessary.

        Raises:
            RunFolderError: the folder belongs to another run, or cannot be written.
        """
        try:
            self.best.parent.mkdir(parents=True, exist_ok=True)
            with self.result.open("x"):  # exclusive: only one of two runs succeeds
                pass
            write_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False).encode())
            write_json(self.result, asdict(result))  # last: a readable record implies that the rest is there
        except FileExistsError:
            raise RunFolderError(
                f"{self.path} already holds a run; continue it with resume={self.path}, or do not set hydra.run.dir"
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path} ({error.strerror}); set outputs to another folder"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock a claimed run for the block; the lock ends with the process, even if it is killed.

        Raises:
            RunFolderError: another process trains the run.
        """
        with hold(self.config) as got:
            if not got:
                raise RunFolderError(f"{self.path} is trained by another process; wait for it, or end it")
            yield

    @contextmanager
    def written(self) -> Iterator[None]:
        """Turn failed writes to this folder in the block into one error.

        Raises:
            RunFolderError: the disk is full or read-only, or the folder was removed.
        """
        try:
            yield
        except OSError as error:
            gone = error.errno == errno.ENOENT and not self.config.exists()
            if error.errno not in UNWRITABLE and not gone:
                raise
            reason = "it was removed" if gone else error.strerror
            raise RunFolderError(
                f"cannot write to {self.path} ({reason}); solve that, then continue with resume={self.path}: its last "
                "checkpoint is complete"
            ) from error

    def is_held(self) -> bool:
        """Return True if a process trains the run now."""
        return is_held(self.config)

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config. Raises RunFolderError if it is missing or unreadable."""
        if not self.config.is_file():
            raise RunFolderError(f"expected the config of a run at {self.config}, found none; name a run's folder")
        try:
            config = yaml.safe_load(self.config.read_text())
        except yaml.YAMLError:
            config = None
        if not isinstance(config, dict):
            raise RunFolderError(f"expected the config of a run in {self.config}, found other text; restore it")
        return config

    def read_result(self) -> RunResult:
        """Read the record. Raises RunFolderError if it is missing or unreadable."""
        try:
            values = json.loads(self.result.read_text())
            for scores in ("best", "last"):  # JSON has null for NaN
                values[scores] = {name: math.nan if v is None else v for name, v in values.get(scores, {}).items()}
            known = {entry.name for entry in fields(RunResult)}
            return RunResult(**{key: value for key, value in values.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"cannot read a run's record at {self.result} ({error}); name a run's folder"
            ) from error

    def write_result(self, result: RunResult) -> None:
        """Replace the record atomically."""
        write_json(self.result, asdict(result))

    def update_result(self, **changes: Any) -> RunResult:
        """Change some fields of the record, and return it."""
        result = replace(self.read_result(), **changes)
        self.write_result(result)
        return result


def with_earlier_runs(folders: Iterable[RunFolder]) -> list[RunFolder]:
    """Return the runs, and the runs that taught them or that they started from; these may have been deleted."""
    found: dict[Path, RunFolder] = {}
    waiting = list(folders)
    while waiting:
        folder = waiting.pop()
        if folder.path.resolve() in found:
            continue
        found[folder.path.resolve()] = folder
        try:
            earlier = folder.read_result()
        except RunFolderError:
            continue  # whoever reads its split reports that
        taught, start = earlier.data.get("soft_targets") or {}, earlier.pretrained.get("run")
        waiting += [RunFolder(Path(path)) for path in (*taught.get("networks", []), *([start] if start else []))]
    return list(found.values())
