"""Optuna studies: storage, search space, interrupted trials, and the trial of a job."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mask_lightning.errors import ConfigError
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps import studies

optuna = pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)

Float, Int = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
Category = optuna.distributions.CategoricalDistribution
SPACE = {"lr": Float(0, 1)}


@pytest.fixture
def search(tmp_path: Path) -> SearchSettings:
    return SearchSettings(storage=str(tmp_path / "new" / "studies.journal"), study_name="mine")


def config(storage: str, **options: Any) -> DictConfig:
    sweeper = {"_target_": studies.SWEEPER, "storage": storage, "study_name": None, "n_trials": 5, **options}
    overrides = {"task": ["sweeper=optuna", "optim.lr=interval(0,1)"]}
    return OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": overrides}})


@pytest.mark.parametrize(
    ("target", "want"), [(studies.SWEEPER, True), ("hydra._internal.core_plugins.BasicSweeper", False)]
)
def test_optuna_is_detected(target: str, want: bool) -> None:
    assert studies.is_configured(OmegaConf.create({"hydra": {"sweeper": {"_target_": target}}})) == want


def test_the_name_is_derived_from_the_overrides(tmp_path: Path) -> None:
    name = studies.name_study(["a=1", "b=interval(0,1)"])
    assert name == studies.name_study(["b=interval(0,1)", "a=1"]) != studies.name_study(["a=2", "b=interval(0,1)"])
    composed = config(f"{tmp_path}/studies.journal")
    assert (
        studies.prepare(composed).study_name
        == composed.hydra.sweeper.study_name
        == studies.name_study(["sweeper=optuna", "optim.lr=interval(0,1)"])
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_trials", 0, "n_trials must be greater than or equal to 1, got 0; set n_trials"),
        ("pruner", "median", "pruner must be 'asha', 'hyperband' or 'none', got 'median'; set pruner"),
        ("direction", "maximize", "there is no option direction; remove it"),
    ],
)
def test_options_are_validated_before_the_first_job(option: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        studies.prepare(config(f"{tmp_path}/studies.journal", **{option: value}))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("override", "want"),
    [
        ("a=1,2", Category(["1", "2"])),
        ("a=[1,2],[3]", Category(["[1,2]", "[3]"])),
        ("a=choice(x,y)", Category(["x", "y"])),
        ("a=int(interval(1,4))", Int(1, 4)),
        ("a=interval(0.5,4)", Float(0.5, 4)),
        ("a=tag(log,interval(1e-4,1e-2))", Float(1e-4, 1e-2, log=True)),
        ("a=tag(log,int(interval(1,64)))", Int(1, 64, log=True)),
        ("a=range(0,10,2)", Int(0, 8, step=2)),
        ("a=range(0.0,1.0,0.25)", Float(0, 0.75, step=0.25)),
    ],
)
def test_an_override_becomes_a_distribution(override: str, want: Any) -> None:
    assert studies.read_space(OverridesParser.create().parse_overrides([override])) == ([], {"a": want})


def test_the_last_of_two_overrides_counts() -> None:
    parsed = OverridesParser.create().parse_overrides(["a=1,2", "b=3", "a=5", "b=6,7"])
    assert studies.read_space(parsed) == (["a=5"], {"b": Category(["6", "7"])})


def test_an_impossible_interval_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"cannot search a=interval\(2,1\)"):
        studies.read_space(OverridesParser.create().parse_overrides(["a=interval(2,1)"]))


@pytest.mark.parametrize("file", ["sqlite:///{}/studies.db", "{}/studies.journal"])
def test_ended_trials_count_and_failed_ones_do_not(file: str, tmp_path: Path, capsys) -> None:
    storage = file.format(tmp_path / "new")
    study = studies.open_study(SearchSettings(storage=storage, study_name="mine"))
    for state, values in (("COMPLETE", 0.5), ("PRUNED", None), ("FAIL", None)):
        study.tell(study.ask(SPACE), values, state=optuna.trial.TrialState[state])
    studies.prepare(config(storage, study_name="mine"))
    assert "study mine: 2 of 5 trials have ended\n" in capsys.readouterr().err


def test_trials_of_a_process_that_ended_are_queued_again(search: SearchSettings, tmp_path: Path) -> None:
    study = studies.open_study(search)
    with studies.owning_trials(tmp_path / "owners") as owner:
        alive, cut, other = (study.ask(SPACE) for _ in range(3))
        alive.set_user_attr(studies.OWNER, owner)
        cut.set_user_attr(studies.OWNER, f"{socket.gethostname()}:{tmp_path}/gone.lock")
        other.set_user_attr(studies.OWNER, "another-machine:/scratch/x.lock")
        assert studies.requeue_interrupted(study) == 1
        assert studies.requeue_interrupted(study) == 0
        assert study.ask(SPACE).params == cut.params
    assert not (tmp_path / "owners").exists()
    assert [study.trials[each.number].state.name for each in (alive, cut, other)] == ["RUNNING", "FAIL", "RUNNING"]


@pytest.mark.parametrize(
    ("storage", "message"), [("nosuch://x", "ArgumentError|NoSuchModuleError"), ("{}/text.csv", "JSONDecodeError")]
)
def test_an_unusable_storage_is_one_line(storage: str, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    (tmp_path / "text.csv").write_text("photo,age\n")
    with pytest.raises(ConfigError, match=message) as error:
        studies.open_study(SearchSettings(storage=storage.format(tmp_path), study_name="mine"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pruner", "monitor", "pruned"),
    [("asha", "val/f1", True), ("asha", "val/loss", False), ("none", "val/f1", False)],
)
def test_a_poor_trial_is_pruned(pruner: str, monitor: str, pruned: bool, search: SearchSettings) -> None:
    study = studies.open_study(search.model_copy(update={"pruner": pruner, "reduction_factor": 2}))
    for score in (0.8, 0.9):
        earlier = studies.StudyTrial(study.ask(SPACE), monitor)
        assert [earlier.report(epoch, score) for epoch in (1, 1)][1] is False  # an epoch is reported once
    assert studies.StudyTrial(study.ask(SPACE), monitor).report(1, 0.1) == pruned


def test_outside_of_a_search_there_is_no_trial() -> None:
    assert studies.current_trial("val/f1") is None
