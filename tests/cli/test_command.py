"""Help, mistakes and interruptions of every command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from mask_lightning.cli import command as command_module
from mask_lightning.cli import compose
from mask_lightning.cli.command import Job, Ranks, lazy_help_accepted, run_command, shorten
from mask_lightning.cli.explain import explain
from mask_lightning.errors import ConfigError
from mask_lightning.settings.train import TrainSettings

Outcome = tuple[int, str]  # exit code, stderr
Command = Callable[..., Outcome]


def nothing(settings: TrainSettings, job: Job) -> None:
    """A main that does nothing with its validated options."""


@pytest.fixture
def command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    handlers: None,
) -> Command:
    """Call train with arguments and return exit code and stderr; everything is written below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def call(*arguments: str, main: Callable[[TrainSettings, Job], Any] = nothing) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as left:
            run_command("train", TrainSettings, main)
        assert isinstance(left.value.code, int)
        return left.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("task=ages", ["task=ages is not one of the choices", "did you mean age?"]),
        ("model=lite", ["model=lite is not one of the choices", "did you mean lite", "lite0"]),
        ("model=resnet50", ["did you mean resnet34", "model.backbone=resnet50 model.image_size=null"]),
        ("model=vgg", ["model=vgg is not one of the choices", "choose from ecaresnet, effb2, lite0, lite2, resnet34"]),
        ("experiment=quik", ["experiment=quik", "did you mean quick"]),
        (
            "data.val_fractoin=0.2",
            [
                "no option data.val_fractoin",
                "data.val_fraction is 0.2 now; type data.val_fraction=VALUE",
            ],
        ),
        ("sede=1", ["no option sede", "did you mean seed"]),
        (
            "data.val_fraction=1.5",
            ["data.val_fraction must be less than 1", "got 1.5", "for example data.val_fraction=0.2"],
        ),
        ("+colour=red", ["no option colour", "remove it"]),
        ("model.image_size=big", ["model.image_size must be a valid integer", "got 'big'"]),
        ("data.root", ["cannot read data.root (", "write key=value"]),
        ("data.name=a=b", ["cannot read data.name=a=b (", "write key=value"]),
        ("data.root=${nowhere}", ["'nowhere' not found", "data.root"]),
        ("~seed", ["'seed' not found", "data.split_seed"]),
        ("seed={", ["cannot read seed={ ("]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command: Command, argument: str, parts: list[str]) -> None:
    code, error = command(argument)
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error


@pytest.mark.parametrize("choice", ["launcher/joblib", "launcher/submitit_slurm"])
def test_a_plugin_that_is_not_installed_is_named_with_our_extra(choice: str) -> None:
    missing = MissingConfigException("no such file", f"hydra/{choice}", ["basic"])
    extra = choice.split("/")[1].replace("submitit_", "")
    assert explain(missing, list) == (
        f"hydra/{choice.replace('/', '=')} needs a plugin; pip install 'mask_lightning[{extra}]'"
    )


def with_torchrun(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    values = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1}
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": 2, **values}.items():
        monkeypatch.setenv(name, str(value))


def test_a_command_that_is_one_process_refuses_torchrun(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with_torchrun(monkeypatch, rank=0)
    code, error = command()
    assert code == 2
    assert error == "error: train is one process, found 2 of torchrun; start python -m mask_lightning.train alone\n"


@pytest.mark.parametrize(("rank", "argument", "code"), [(0, "seed=1", 0), (0, "sede=1", 2), (1, "sede=1", 7)])
def test_the_process_of_rank_zero_runs_the_command_and_dismisses_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, handlers: None, rank: int, argument: str, code: int
) -> None:
    with_torchrun(monkeypatch, rank)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", argument])
    dismissed: list[int] = []
    with pytest.raises(SystemExit) as left:
        run_command("train", TrainSettings, nothing, ranks=lambda: Ranks(lambda: 7, dismissed.append))
    assert left.value.code == code
    assert dismissed == ([] if rank else [code])


def test_a_launcher_and_torchrun_do_not_go_together(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with_torchrun(monkeypatch, rank=0)
    monkeypatch.setattr(command_module, "find_launch", lambda: None)  # as if the command took part
    code, error = command("-m", "launcher=ray", "seed=0,1")
    assert code == 2
    assert "error: RayLauncher starts processes itself, found torchrun; leave one of them out" in error


def test_choices_that_only_files_use_are_not_offered(command: Command) -> None:
    assert "_base" not in command("model=bas")[1]


def test_a_run_that_ends_well_exits_with_0(command: Command) -> None:
    seen: list[int] = []
    assert command("seed=5", main=lambda settings, job: seen.append(settings.seed)) == (0, "")
    assert seen == [5]


def test_ctrl_c_exits_with_130(command: Command) -> None:
    def interrupted(settings: TrainSettings, job: Job) -> None:
        raise KeyboardInterrupt

    assert command(main=interrupted)[0] == 130


def test_a_bug_shows_its_traceback(command: Command) -> None:
    with pytest.raises(ZeroDivisionError):
        command(main=lambda settings, job: 1 / 0)


def test_a_job_that_never_began_leaves_no_folder(command: Command, tmp_path: Path) -> None:
    assert command("data.val_fraction=2")[0] == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(tmp_path.glob("outputs/runs/*")) == []


def test_a_failed_job_keeps_what_it_wrote(command: Command, tmp_path: Path) -> None:
    def half_done(settings: TrainSettings, job: Job) -> None:
        Path("outputs/runs/mine/notes.txt").write_text("found so far")
        raise ConfigError("no more")

    assert command("hydra.run.dir=outputs/runs/mine", main=half_done) == (2, "error: no more\n")
    assert (tmp_path / "outputs/runs/mine/notes.txt").is_file()


def test_a_sweep_goes_on_after_a_job_that_failed(command: Command) -> None:
    seen: list[int] = []

    def fails_first(settings: TrainSettings, job: Job) -> None:
        seen.append(settings.seed)
        if settings.seed == 1:
            raise ConfigError("seed 1 is unlucky")

    code, error = command("-m", "seed=1,2,3", main=fails_first)
    assert (code, seen) == (2, [1, 2, 3])
    assert error.count("error: seed 1 is unlucky\n") == 1


def test_a_run_has_a_folder_of_its_own(command: Command, tmp_path: Path) -> None:
    def writes(settings: TrainSettings, job: Job) -> None:
        (Path(HydraConfig.get().runtime.output_dir) / "notes.txt").write_text("something")

    assert command(main=writes)[0] == 0
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    assert len(run.name) == len("2026-01-31_12-59-59-a1b2")
    assert (run / "notes.txt").is_file()


def test_a_job_that_writes_nothing_leaves_no_folder(command: Command, tmp_path: Path) -> None:
    assert command(main=nothing)[0] == 0
    assert list(tmp_path.glob("outputs/runs/*")) == []


@pytest.mark.parametrize(("resume", "want"), [(None, "out/runs/"), ("out/runs/old", "out/runs/old")])
def test_a_resumed_run_goes_on_in_its_folder(resume: str | None, want: str) -> None:
    config = OmegaConf.create({"resume": resume, "dir": "${run_folder:out/runs,${resume}}"})
    assert config.dir.startswith(want)
    assert (config.dir == want) == (resume is not None)


@pytest.mark.parametrize("installed", [True, False])
def test_conf_lies_in_a_wheel_or_beside_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    package = tmp_path / "site" / "mask_lightning"
    conf = (package if installed else package.parent) / "conf"
    conf.mkdir(parents=True)
    monkeypatch.setattr(compose, "__file__", str(package / "cli" / "compose.py"))
    assert compose.config_dir() == conf.resolve()


@pytest.mark.parametrize(("below", "want"), [(True, "runs/a"), (False, "elsewhere/runs/a")])
def test_paths_are_shown_as_people_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: bool, want: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = (here / want) if below else (tmp_path / want)
    assert shorten(path) == (Path(want) if below else path)


def check_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    """Check help as argparse of Python 3.14 does."""
    try:
        assert action.help is None or "%" not in action.help or parser._get_formatter()._expand_help(action)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("badly formed help string") from error


@pytest.fixture
def python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let argparse check help whenever an argument is added."""
    if hasattr(argparse.ArgumentParser, "_check_help"):
        return
    add = argparse.ArgumentParser._add_action

    def add_action(self: argparse.ArgumentParser, action: argparse.Action) -> argparse.Action:
        self._check_help(action)  # type: ignore[attr-defined]
        return add(self, action)

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "_add_action", add_action)


@pytest.mark.usefixtures("python_3_14")
def test_python_3_14_accepts_the_lazy_help_of_hydra(command: Command) -> None:
    assert command("task=age") == (0, "")
    with lazy_help_accepted(), pytest.raises(ValueError, match="badly formed help string"):
        argparse.ArgumentParser().add_argument("--share", help="50 %")
    with pytest.raises(ValueError, match="badly formed help string"):
        get_args_parser()  # if this passes, Hydra is fixed: remove lazy_help_accepted


RUN_MODULE = """
import runpy, sys
sys.argv = ["train", *sys.argv[1:]]
try:
    runpy.run_module("mask_lightning.train", run_name="__main__")
except SystemExit as left:
    print("exit code", left.code, "torch" if "torch" in sys.modules else "quick")
"""


@pytest.mark.parametrize(
    ("argument", "code", "says"),
    [("--help", 0, "model=effb2 task=age"), ("data.val_fraction=1.5", 2, "less than 1, got 1.5")],
)
def test_help_and_mistakes_do_not_wait_for_torch(tmp_path: Path, argument: str, code: int, says: str) -> None:
    checkout = Path(compose.__file__).parents[2]
    line = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(checkout)!r})" + RUN_MODULE, argument]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == f"exit code {code} quick"
    assert says in done.stdout + done.stderr
