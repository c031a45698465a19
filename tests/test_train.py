"""The command `train` from start to exit: exit codes, one-line errors, signals, several runs, an installed wheel."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from tiny_runs import ONE_EPOCH, TINY_RUN

from mask_lightning.cli.command import run_command
from mask_lightning.cli.compose import config_dir
from mask_lightning.cli.hydra_callbacks import SweepSummary
from mask_lightning.settings.train import TrainSettings
from mask_lightning.train import main

CHECKOUT = config_dir().parent
TINY = (*TINY_RUN, *ONE_EPOCH, "trainer.progress=true")


def start(*arguments: str, cwd: Path, package: Path = CHECKOUT) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mask_lightning.train", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def train(*arguments: str, cwd: Path, package: Path = CHECKOUT) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd, package=package)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=ages"], "task=ages is not one of the choices; did you mean age?"),
        (["data.val_fraction=1.5"], "data.val_fraction must be less than 1, got 1.5; set data.val_fraction"),
        (["data.val_fracton=0.1"], "there is no option data.val_fracton; did you mean data.val_fraction"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = train(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "portraits" not in str(path)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.backbone=resnet43", "has no model 'resnet43'; did you mean resnet34"),
        ("data.root=nowhere", "expected labelled photos at train/images/"),
    ],
)
def test_a_mistake_found_after_loading_torch_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    handlers: None,
    argument: str,
    message: str,
) -> None:
    code = train_here(monkeypatch, tmp_path, argument)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "portraits" not in str(path)]


def train_here(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Call the command in this process, in a folder; return its exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as left:
        run_command("train", TrainSettings, main)
    return int(left.value.code or 0)


def test_multirun_runs_every_combination(
    competition: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    handlers: None,
) -> None:
    monkeypatch.setattr(SweepSummary, "sweep", None)
    monkeypatch.setattr(SweepSummary, "launcher", None)
    options = (*TINY, f"data.root={competition}", "trainer.max_batches=1")
    assert train_here(monkeypatch, tmp_path, "-m", *options, "task=mask,age") == 0, capfd.readouterr().err
    records = sorted(tmp_path.glob("outputs/sweeps/*/*/result.json"))
    assert [set(json.loads(path.read_text())["best"]) & {"val/mask/f1", "val/age/f1"} for path in records] == [
        {"val/mask/f1"},
        {"val/age/f1"},
    ]


def test_runs_started_together_have_a_folder_each_and_end_by_a_signal(competition: Path, tmp_path: Path) -> None:
    """Start two runs at once: SIGINT and SIGTERM stop them, and they leave a checkpoint and say how to resume."""
    options = (*TINY, f"data.root={competition}", "trainer.max_batches=1", "finetune.epochs=500")
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143}
    processes = {stop: start(*options, f"seed={seed}", cwd=tmp_path) for seed, stop in enumerate(ends)}
    folders: dict[signal.Signals, Path] = {}
    try:
        deadline = time.monotonic() + 240
        while len(folders) < len(ends):
            assert time.monotonic() < deadline
            for folder in (metrics.parent for metrics in tmp_path.glob("outputs/runs/*/metrics.csv")):
                stop = list(ends)[read_seed(folder)]
                if stop not in folders:
                    assert processes[stop].poll() is None
                    processes[stop].send_signal(stop)
                folders[stop] = folder
            time.sleep(0.1)
        for stop, process in processes.items():
            _, err = process.communicate(timeout=120)
            folder = folders[stop]
            assert process.returncode == ends[stop], err
            assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
            assert f"resume={folder.relative_to(tmp_path)}" in err
            assert (folder / "checkpoints" / "last.ckpt").is_file()
        assert len(list(tmp_path.glob("outputs/runs/*"))) == len(ends)
    finally:
        for process in processes.values():
            process.kill()


def read_seed(folder: Path) -> int:
    return int(yaml.safe_load((folder / "config.yaml").read_text())["seed"])


def test_output_folder_that_cannot_be_written(
    competition: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    handlers: None,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    code = train_here(monkeypatch, tmp_path, *TINY, f"data.root={competition}", f"outputs={tmp_path}/file")
    err = capfd.readouterr().err
    assert code == 2
    assert f"cannot write to {tmp_path}/file" in err.splitlines()[-1]


def test_help_comes_from_an_installed_wheel_without_torch(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    assert (installed / "mask_lightning" / "py.typed").is_file()
    (installed / "torch").mkdir()
    (installed / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    code, out, err = train("--help", cwd=tmp_path, package=installed)
    assert code == 0, err
    assert "model=effb2 task=age" in out
    assert "model: " in out
