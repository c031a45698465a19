"""Switches of torch during a fit, and that they are restored afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import prepared

from mask_lightning.engine.determinism import device_math
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.find_lr import run_range_test
from mask_lightning.reports import run_report
from mask_lightning.settings.train import TrainSettings

State = tuple[bool, bool, str]


def state() -> State:
    deterministic = torch.are_deterministic_algorithms_enabled()
    return deterministic, torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("cuda", "deterministic", "want"),
    [
        (False, False, (False, False, "highest")),
        (False, True, (True, False, "highest")),
        (True, False, (False, True, "high")),
        (True, True, (True, False, "high")),
    ],
)
def test_switches_are_restored_after_the_block(cuda: bool, deterministic: bool, want: State, fails: bool) -> None:
    before = state()
    try:
        with device_math(cuda=cuda, deterministic=deterministic):
            assert state() == want
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert state() == before == (False, False, "highest")


def test_deterministic_algorithms_chosen_before_stay_on() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with device_math(cuda=True, deterministic=False):
            assert state() == (True, False, "high")  # a benchmark would choose others from time to time
        with device_math(cuda=True, deterministic=True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("own", [None, ":16:8"])
def test_the_workspace_of_cublas_is_set_before_a_later_fit_needs_it(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    if own:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", own)
    with device_math(cuda=False, deterministic=True):
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == own
    with device_math(cuda=True, deterministic=False):
        pass
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (own or ":4096:8")


def put() -> None:
    """Run an operation without deterministic implementation, on a CPU either."""
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_an_operation_without_deterministic_implementation_is_one_line() -> None:
    message = r"^torch has no deterministic put_; set trainer\.deterministic=false$"
    with pytest.raises(ConfigError, match=message), device_math(cuda=False, deterministic=True):
        put()
    with device_math(cuda=False, deterministic=False):
        put()


class CompilerError(RuntimeError):
    __module__ = "torch._dynamo.exc"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("Deterministic behavior was enabled, but ... you must set CUBLAS_WORKSPACE_CONFIG=:4096:8"),
            "^trainer.deterministic=true needs CUBLAS_WORKSPACE_CONFIG=:4096:8, .* set trainer.deterministic=false$",
        ),
        (CompilerError("no C++ compiler\n\nset TORCHDYNAMO"), r"\(no C\+\+ compiler set .*model\.compile=false$"),
    ],
)
def test_errors_of_torch_name_the_option(error: RuntimeError, message: str) -> None:
    with pytest.raises(ConfigError, match=message), device_math(cuda=False, deterministic=True):
        raise error


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), device_math(cuda=False, deterministic=True):
        raise RuntimeError("shapes")


def sweep(settings: TrainSettings, _: Path) -> None:
    run = prepared(settings)
    run_range_test(run, run.build_module())


@pytest.mark.parametrize("harm", [False, True])
@pytest.mark.parametrize("fit", [sweep, runs.train_run])
def test_the_option_reaches_every_step(
    compose_train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: Callable[..., object], harm: bool
) -> None:
    seen: list[bool] = []
    step = MultiTaskModule.training_step

    def training_step(self: MultiTaskModule, batch: Any, batch_idx: int) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        if harm:
            put()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    for picture in ("save_augmented", "save_figures", "save_schedule"):
        monkeypatch.setattr(run_report, picture, lambda *_: None)
    options = ("trainer.deterministic=true", "trainer.max_batches=2", "range_test.num_steps=10", "data.cache=off")
    refused = pytest.raises(ConfigError, match=r"set trainer\.deterministic=false$") if harm else nullcontext()
    with refused:
        fit(compose_train(*options), tmp_path / "run")
    assert set(seen) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("size", "photos", "fails"), [(32, 1, True), (32, 2, False), (64, 1, False)])
def test_a_batch_of_one_photo_is_explained(size: int, photos: int, fails: bool) -> None:
    """At 32 pixels the last feature map has one value per channel, which BatchNorm cannot normalise."""
    network = torch.nn.Sequential(torch.nn.AvgPool2d(32), torch.nn.BatchNorm2d(3)).train()
    expected = pytest.raises(ConfigError, match="at least 2 per process") if fails else nullcontext()
    with expected, device_math(cuda=False, deterministic=False):
        network(torch.rand(photos, 3, size, size))


def test_other_value_errors_pass() -> None:
    with pytest.raises(ValueError, match="something else"), device_math(cuda=False, deterministic=False):
        raise ValueError("something else")
