"""Help: the main options of a command, or all of them, each with a description."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from typing import get_type_hints

import pytest
import yaml

from mask_lightning.__main__ import commands
from mask_lightning.cli.compose import compose, config_dir
from mask_lightning.cli.help import MAIN_OPTIONS, describe, print_help
from mask_lightning.settings.base import Settings
from mask_lightning.settings.train import TrainSettings

OPTION = re.compile(r"^  ([a-z_0-9.]+)=", re.MULTILINE)


def settings_of(command: str) -> type[Settings]:
    main = importlib.import_module(f"mask_lightning.{command}").main
    found: type[Settings] = get_type_hints(main)["settings"]
    return found


def shown(command: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    settings = settings_of(command)
    compose(command, settings)
    assert print_help(command, settings, list(arguments))
    return capsys.readouterr().out


@pytest.mark.parametrize("command", list(MAIN_OPTIONS))
def test_help_shows_the_main_options_and_help_all_the_others(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main, every = (OPTION.findall(shown(command, flag, capsys=capsys)) for flag in ("--help", "--help=all"))
    assert main == MAIN_OPTIONS[command].split()
    assert 4 <= len(main) <= 10
    assert set(main) < set(every)


@pytest.mark.parametrize("command", sorted(set(commands()) - set(MAIN_OPTIONS)))
def test_a_command_with_few_options_shows_all(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(command, "--help", capsys=capsys)
    assert "--help=all" not in text
    assert 0 < len(OPTION.findall(text)) <= 10


def test_an_option_that_is_named_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("train", "model=effb2", "augment.magnitude=9", "--help", capsys=capsys)
    assert "  augment.magnitude=9 " in text
    assert "  optim.lr=0.004 " in text
    assert "python -m mask_lightning.train --help=all" in text


def test_every_option_of_every_choice_has_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    for path in config_dir().glob("*/*.yaml"):
        text = path.read_text()
        if "@package _global_" in text or path.parent.name in ("ensemble", "launcher", "sweeper"):
            continue
        for key, value in (yaml.safe_load(text) or {}).items():
            if key != "defaults" and not isinstance(value, dict):
                name = f"{path.parent.name}.{key}"
                assert describe(name, TrainSettings), f"{name} of {path.name} has no description"


@pytest.mark.parametrize("width", [80, 200])
def test_help_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown("train", "--help=all", capsys=capsys).split("Options, set")[1].splitlines()
    indented = [line for line in lines if line.startswith(" " * 34)]
    assert indented
    assert max(map(len, indented)) <= width


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    """As in `--help=all | head`."""
    command = [sys.executable, "-m", "mask_lightning.compare", "--help=all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
