"""The door as people use it: exit codes, one-line errors, Ctrl-C, several runs, an installed wheel."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from tiny_runs import ONE_EPOCH, TINY_RUN

from mask_lightning.cli.compose import config_dir

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
        (["model.backbone=resnet43"], "has no model 'resnet43'; did you mean resnet34"),
        (["data.root=nowhere"], "expected labelled photos at train/images/"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = train(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "portraits" not in str(path)]


def test_two_runs_started_together_get_two_folders(competition: Path, tmp_path: Path) -> None:
    options = (*TINY, f"data.root={competition}", "trainer.max_batches=1")
    processes = [start(*options, cwd=tmp_path) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    results = list(tmp_path.glob("outputs/runs/*/result.json"))
    assert [json.loads(path.read_text())["status"] for path in results] == ["finished", "finished"]


def test_multirun_runs_every_combination(competition: Path, tmp_path: Path) -> None:
    options = (*TINY, f"data.root={competition}", "trainer.max_batches=1")
    code, _, err = train("-m", *options, "task=mask,age", cwd=tmp_path)
    assert code == 0, err
    records = sorted(tmp_path.glob("outputs/sweeps/*/*/result.json"))
    assert [set(json.loads(path.read_text())["best"]) & {"val/mask/f1", "val/age/f1"} for path in records] == [
        {"val/mask/f1"},
        {"val/age/f1"},
    ]


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_checkpoint_named(
    competition: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    process = start(*TINY, f"data.root={competition}", "finetune.epochs=500", cwd=tmp_path)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("outputs/runs/*/metrics.csv")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(stop)
    _, err = process.communicate(timeout=120)
    (folder,) = tmp_path.glob("outputs/runs/*")
    assert process.returncode == code
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    assert f"resume={folder.relative_to(tmp_path)}" in err
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_output_folder_that_cannot_be_written(competition: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, _, err = train(*TINY, f"data.root={competition}", f"outputs={tmp_path}/file", cwd=tmp_path)
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
