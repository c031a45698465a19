"""Every right-hand side in the table of docs/coming_from_fastai.md runs: calls, options and commands."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_runs import TINY_RUN, without_figures

from mask_lightning import notebook
from mask_lightning.callbacks.lr_range_test import RangeTestResult
from mask_lightning.cli.compose import compose
from mask_lightning.inference.trained import load_trained
from mask_lightning.settings.base import check, describe_options
from mask_lightning.settings.inference import Tta
from mask_lightning.settings.train import TrainSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming_from_fastai.md"
TINY = (*TINY_RUN, "data.batch_size=16", "data.clean_train_photos=28", "trainer.max_batches=1")
LRS = np.geomspace(1e-5, 1.0, 60)
LOSSES = tuple((2 - np.tanh(np.log10(LRS) + 3)).tolist())
FILE = re.compile(r"[\w*]+\.(png|csv|ckpt|json)")


def right_hand_sides() -> list[str]:
    """Return each piece of code in the right column of the table."""
    rows = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[2:]
    cells = [re.split(r"(?<!\\)\|", row)[-1] for row in rows]
    return list(dict.fromkeys(code for cell in cells for code in re.findall(r"`([^`]+)`", cell)))


CODE = right_hand_sides()
CALLS = [code for code in CODE if re.fullmatch(r"\w+\(.*\)", code)]
COMMANDS = [code for code in CODE if code.startswith("python -m ")]
OPTIONS = [
    code for code in CODE if code not in COMMANDS and re.match(r"[a-z_.]+=", code) and not re.search('"|True', code)
]
OTHERS = [code for code in CODE if code not in (*CALLS, *COMMANDS, *OPTIONS)]


@pytest.fixture(scope="module", autouse=True)
def no_run_figures() -> Iterator[None]:
    with without_figures():
        yield


@pytest.fixture(scope="module")
def names(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the calls of the table use."""
    outputs = f"outputs={tmp_path_factory.mktemp('fastai')}"
    data = notebook.load_data(competition, *TINY, outputs)
    module = notebook.build_module(data)
    run = notebook.fit_one_cycle(module, data, 1, 1e-3)
    return {
        **{name: getattr(notebook, name) for name in notebook.__all__},
        "load_trained": load_trained,
        "root": competition,
        "others": (*TINY, outputs),
        "data": data,
        "module": module,
        "run": run,
        "path": run.folder.best,
        "device": torch.device("cpu"),
        "found": RangeTestResult(tuple(LRS), LOSSES, LOSSES, num_steps=60, stopped="completed", restarts=0),
        "hi": 1e-3,
    }


def test_the_table_was_read() -> None:
    assert (len(CALLS), len(COMMANDS), len(OPTIONS)) >= (13, 6, 20)


@pytest.mark.parametrize("call", CALLS)
def test_calls_return_something(call: str, names: dict[str, Any]) -> None:
    assert eval(call.replace("...", "*others"), dict(names)) is not None


@pytest.mark.parametrize("value", ["heads", {"last": 2}, "all"])
def test_unfreeze_takes_what_the_table_names(value: Any, names: dict[str, Any]) -> None:
    assert str(value).split("'")[1 if isinstance(value, dict) else 0] in PAGE.read_text()
    assert notebook.fit_one_cycle(names["module"], names["data"], 1, 1e-3, unfreeze=value).folder.best.exists()


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_valid(options: str) -> None:
    typed = options.split()
    if typed[-1].endswith("="):  # the reader fills in the value
        assert typed[-1].removesuffix("=") in {*describe_options(TrainSettings), "finetune.phases"}
        return
    check(TrainSettings, compose("train", TrainSettings, typed))


@pytest.mark.parametrize("other", OTHERS)
def test_other_names_exist(other: str) -> None:
    if other.startswith("mask_lightning"):
        assert importlib.import_module(other)
    else:
        known = {
            'unfreeze="heads"',
            '{"last": n}',
            '"all"',
            "reset_opt=True",
            *get_args(Tta),
            *describe_options(TrainSettings),
        }
        assert FILE.fullmatch(other) or other in known or hasattr(notebook, other), f"{other} is checked by no test"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, names: dict[str, Any], competition: Path, tmp_path: Path) -> None:
    if "SWEEP" in command:
        pytest.skip("tests/pipelines/test_suspects.py runs suspects on a cross-validation")
    typed = command.replace("RUN", str(names["run"].folder.path)).replace("PHOTOS", str(competition)).split()
    extra = list(TINY) if "find_lr" in command else []
    if "find_lr" in command:
        extra += [f"data.root={competition}", "finetune=none", "range_test.num_steps=30"]
    done = subprocess.run(
        [sys.executable, *typed[1:], *extra, f"outputs={tmp_path}"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
