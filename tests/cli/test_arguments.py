"""Flags between overrides, and paths that Hydra would not read: on the command line, in a multirun and in notebooks."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser

from mask_lightning.cli.arguments import FLAGS, order_flags, path_options, quote_paths
from mask_lightning.cli.command import Job, run_command
from mask_lightning.cli.compose import compose
from mask_lightning.errors import ConfigError
from mask_lightning.settings.inference import PredictSettings, VoteSettings
from mask_lightning.settings.train import TrainSettings

NAMES = (
    "a=b", "faces(1)", "x#y", "a,b", "[x]", "{x}", "얼굴", "2024", "1e5", "nan", "true", "off", "~x", "my faces", "é",
    "a'b", 'a"b', "a;b", "a&b", "<x>", "!", "^", "a\\", "a'b\"c\\",
    "x:y", "$x", "(x)", "faces(1)/a=b", "a: b",
    "choice", "사진 (1), 2024=새 폴더", "+x", "=", "a=", "null/x",
)  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        (["a=1", "-m", "b=1,2"], ["-m", "a=1", "b=1,2"]),
        (["a=1", "b=1,2", "--multirun"], ["--multirun", "a=1", "b=1,2"]),
        (["--cfg", "job", "a=1"], ["--cfg", "job", "a=1"]),
        (["~a", "a=-1"], ["~a", "a=-1"]),
    ],
)
def test_m_may_stand_anywhere(typed: list[str], want: list[str]) -> None:
    assert order_flags(typed) == want
    get_args_parser().parse_args(want)


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [("--lr", "write lr=VALUE"), ("--data.root=x", "write data.root=x"), ("-batch-size=3", "write batch_size=3")],
)
def test_a_flag_that_hydra_lacks_is_refused_in_one_line(typed: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"^expected options .* found {typed}; {remedy}$"):
        order_flags([typed])


def test_the_flags_are_those_of_hydra() -> None:
    assert set(FLAGS) == {flag for action in get_args_parser()._actions for flag in action.option_strings}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_path(tmp_path: Path, name: str) -> None:
    for root in (name, f"{tmp_path}/{name}"):
        config = compose("train", TrainSettings, [f"data.root={root}", "hydra.run.dir=."])
        assert config["data"]["root"] == root


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_read_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", f"data.root={name}", f"outputs={name}"])
    seen: list[TrainSettings] = []
    with pytest.raises(SystemExit) as left:
        run_command("train", TrainSettings, lambda settings, job: seen.append(settings))
    assert left.value.code == 0
    assert [str(each.data.root) for each in seen] == [str(Path(name))]
    assert [str(each.outputs) for each in seen] == [str(Path(name))]


@pytest.mark.parametrize(
    "argument",
    [
        "data.root=faces",
        "data.root=null",
        "data.root=",
        "data.root=${outputs}/a",
        "data.root='a b'",
        'data.root="a=b"',
        "+data.root=faces",
        "seed=1",
        "task.tasks=[age]",
        "loss=focal",
        "~data.root",
        "-m",
        "--config-dir=a=b",
    ],
)
def test_what_hydra_reads_already_stays_as_typed(argument: str) -> None:
    assert quote_paths([argument], TrainSettings) == [argument]


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        ("ckpt=[a,b]", ["a", "b"]),
        ("ckpt=[runs/a=b,2024]", ["runs/a=b", "2024"]),
        ("ckpt=['a,b',c]", ["a,b", "c"]),
        ("ckpt=a=b", ["a=b"]),
        ("ckpt=2024", ["2024"]),
    ],
)
def test_lists_of_paths(typed: str, want: list[str]) -> None:
    config = compose("predict", PredictSettings, [typed, "data.root=x"])
    settings = PredictSettings.model_validate(config)
    assert [str(path) for path in settings.ckpt] == want


def test_a_folder_in_brackets_is_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[x]").mkdir()
    assert quote_paths(["runs=[x]"], VoteSettings) == ["runs='[x]'"]
    assert quote_paths(["runs=[y]"], VoteSettings) == ["runs=[y]"]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str) -> tuple[Any, list[str], str]:
    monkeypatch.setattr(sys, "argv", ["train", *shlex.split(line)])
    seen: list[str] = []

    def main(settings: TrainSettings, job: Job) -> None:
        seen.append(str(settings.data.root))

    with pytest.raises(SystemExit) as left:
        run_command("train", TrainSettings, main)
    return left.value.code, seen, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("-m data.root=a,b", ["a", "b"]),
        ("-m data.root=a=b,2024,얼굴", ["a=b", "2024", "얼굴"]),
        ("--multirun data.root=a=b seed=1,2", ["a=b", "a=b"]),
        ("-m 'data.root=choice(a,b)'", ["a", "b"]),
        ("-m \"data.root='a,b',c\"", ["a,b", "c"]),
        ("data.root=a,b", ["a,b"]),
    ],
)
def test_values_of_a_multirun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None, capsys, line: str, want: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, line)[:2] == (0, want)


def test_an_ambiguous_comma_prints_the_lines_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    code, seen, error = run(monkeypatch, capsys, "-m data.root=a,b")
    assert (code, seen, error.count("\n")) == (2, [], 1)
    start, _, rest = error.strip().partition("for the path type ")
    assert start.startswith("error: data.root=a,b is one path or several values of a multirun")
    one, _, several = rest.partition(", for several values ")
    assert run(monkeypatch, capsys, f"-m {one}")[:2] == (0, ["a,b"])
    assert run(monkeypatch, capsys, f"-m {several}")[:2] == (0, ["a", "b"])
    with pytest.raises(ConfigError, match="one path or several values"):
        quote_paths(["data.root=a,b"], TrainSettings, multirun=True)


def test_path_options_are_found_in_the_settings() -> None:
    found = {name: list[Path] in kinds for name, kinds in path_options(TrainSettings)}
    assert {"outputs", "resume", "data.root", "data.table", "data.corrections", "data.cache_dir"} <= set(found)
    assert {name for name, several in found.items() if several} == {"distill"}
    assert {name: list[Path] in kinds for name, kinds in path_options(PredictSettings)} == {
        "outputs": False,
        "ckpt": True,
        "data.root": False,
    }


def test_folders_that_people_report(field_cases: Path) -> None:
    for folder in (field_cases / "hydra_paths").iterdir():
        config = compose("predict", PredictSettings, ["ckpt=x", f"data.root={folder}"])
        assert config["data"]["root"] == str(folder)
