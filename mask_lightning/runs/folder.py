"""The folder of one run: what lies where, and its record result.json."""

from __future__ import annotations

import errno
import json
import math
import secrets
from collections.abc import Iterator, Mapping
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

Status = Literal["running", "finished", "failed", "interrupted"]


def new_name() -> str:
    """Of a run's folder: the time, and what keeps runs of the same second apart."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunResult:
    """What result.json holds: enough to know a run without opening its checkpoint.

    Attributes:
        status: "running" also where the machine went down.
        monitor: the metric that chose best.ckpt.
        best: metric -> value of best.ckpt, null for NaN; `best_epoch` is its epoch, from 1.
        last: metric -> value after the last validation, likewise.
        seconds: wall clock of this and earlier parts of the run; photos_per_second: of training alone.
        weights: where the backbone's weights came from.
        parameters: of the network.
        data: root, fingerprint, people and photos per side.
        versions: of what computed it.
        overrides: what was typed.
        error: of a failed run.
        lr: that the range test found, where optim.lr=auto.
        config_hash: of the options that make the run what it is, see `settings.identity`; "" in older records.
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
    parameters: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    lr: float | None = None
    config_hash: str = ""

    @property
    def score(self) -> float | None:
        """The monitored metric of the best checkpoint."""
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
        """A row per epoch."""
        return self.path / "metrics.csv"

    @property
    def split(self) -> Path:
        """The labelled photos: a row each, with the side of the split that it was on."""
        return self.path / "split.csv"

    @property
    def best(self) -> Path:
        """The checkpoint to predict with."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def calibration(self) -> Path:
        """The temperatures of best.ckpt, where they were fitted."""
        return self.path / "checkpoints" / "calibration.json"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    def claim(self, config: Mapping[str, Any], result: RunResult) -> None:
        """Make this folder the run's own.

        Raises:
            RunFolderError: another run has it, or it cannot be written.
        """
        try:
            self.best.parent.mkdir(parents=True, exist_ok=True)
            with self.result.open("x"):  # exclusive: of two runs, one gets it
                pass
            write_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False).encode())
            write_json(self.result, asdict(result))  # last: who can read it finds the rest
        except FileExistsError:
            raise RunFolderError(
                f"{self.path} already holds a run; go on with resume={self.path}, or leave hydra.run.dir to itself"
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path} ({error.strerror}); set outputs to another folder"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a claimed run to this process for the block; the lock ends with the process, also by SIGKILL.

        Raises:
            RunFolderError: another process trains it.
        """
        with hold(self.config) as got:
            if not got:
                raise RunFolderError(f"{self.path} is trained by another process; wait for it, or end it")
            yield

    @contextmanager
    def written(self) -> Iterator[None]:
        """Around what writes here over a long time.

        Raises:
            RunFolderError: a write failed: the disk is full or read-only, or the folder is not there any more.
        """
        try:
            yield
        except OSError as error:
            gone = error.errno == errno.ENOENT and not self.config.exists()
            if error.errno not in UNWRITABLE and not gone:
                raise
            reason = "it is not there any more" if gone else error.strerror
            raise RunFolderError(
                f"cannot write to {self.path} ({reason}); mend that, then go on with resume={self.path}: its last "
                "checkpoint is whole"
            ) from error

    def is_held(self) -> bool:
        """Whether some process trains it at this moment."""
        return is_held(self.config)

    def read_config(self) -> dict[str, Any]:
        """The resolved config. Raises RunFolderError if there is none, or it cannot be read."""
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
        """The record. Raises RunFolderError if there is none, or it cannot be read."""
        try:
            values = json.loads(self.result.read_text())
            for scores in ("best", "last"):  # null is what a file holds for NaN
                values[scores] = {name: math.nan if v is None else v for name, v in values.get(scores, {}).items()}
            known = {entry.name for entry in fields(RunResult)}
            return RunResult(**{key: value for key, value in values.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"cannot read a run's record at {self.result} ({error}); name a run's folder"
            ) from error

    def write_result(self, result: RunResult) -> None:
        """Replace the record, atomically."""
        write_json(self.result, asdict(result))

    def update_result(self, **changes: Any) -> RunResult:
        """Change some fields of the record."""
        result = replace(self.read_result(), **changes)
        self.write_result(result)
        return result
