"""The package as a whole: its reusable parts, its list of commands, and the examples in its docstrings."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mask_lightning
from mask_lightning import __main__
from mask_lightning.cli.compose import config_dir

PACKAGE = Path(mask_lightning.__file__).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_reusable_parts_are_imported_on_first_use() -> None:
    script = (
        "import sys, mask_lightning; assert 'torch' not in sys.modules; from mask_lightning import *; "
        "assert issubclass(SingleTaskModule, MultiTaskModule); "
        "print(LRRangeTest.__module__, Ranger.__module__, PhasedFinetuning.__module__, FaceDataModule.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "mask_lightning.callbacks.lr_range_test",
        "mask_lightning.optim.ranger",
        "mask_lightning.callbacks.phased_finetuning",
        "mask_lightning.data.datamodule",
    ]


def test_an_unknown_part_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Rangr'"):
        mask_lightning.Rangr  # noqa: B018
    assert set(mask_lightning.__all__) <= set(dir(mask_lightning))


def test_every_command_has_options_in_conf_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    commands = __main__.commands()
    assert {"train", "predict", "evaluate", "vote", "compare"} <= set(commands)
    assert set(commands) == {path.stem for path in config_dir().glob("[!_]*.yaml")}
    assert all(text and text.endswith(".") for text in commands.values())


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_are_listed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mask-lightning", *arguments])
    __main__.main()
    shown = capsys.readouterr().out
    for name, description in __main__.commands().items():
        assert name in shown
        assert description in shown


def test_a_command_runs_with_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> None:
    monkeypatch.setattr(sys, "argv", ["mask-lightning", "compare", "--help"])
    monkeypatch.delitem(sys.modules, "mask_lightning.compare", raising=False)  # runpy warns if it is imported already
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 0
    assert "python -m mask_lightning.compare" in capsys.readouterr().out


def test_an_unknown_command_suggests_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mask-lightning", "trian"])
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: there is no command trian; did you mean train?\n"


def test_docstrings_have_examples() -> None:
    assert len(WITH_EXAMPLES) > 40


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert result.failed == 0
