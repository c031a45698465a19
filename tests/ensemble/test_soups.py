"""Averaged weights against NumPy, BatchNorm statistics against a plain pass, greedy soup against the paper's recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.ensemble import soups as soup
from mask_lightning.ensemble.cross_fit import person_folds
from mask_lightning.ensemble.members import Member
from mask_lightning.ensemble.scoring import mean_score
from mask_lightning.ensemble.soups import (
    SoupMember,
    cross_fitted_greedy_soup,
    greedy_soup,
    uniform_soup,
    why_no_soup,
    write_checkpoint,
)
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.runs.folder import RunFolder, RunResult

CPU = torch.device("cpu")


@pytest.fixture
def rows(eval_folder: Path) -> pd.DataFrame:
    return read_photo_list(eval_folder).table


def member(name: str, *, seed: int = 0, weights: str = "hub", backbone: str = "test_resnet", **sections: Any) -> Member:
    config = {"seed": seed, "model": {"backbone": backbone}, **sections}
    return Member(name, name, RunFolder(Path(name)), config, RunResult("finished", "val/f1", weights=weights))


@pytest.fixture
def members(make_checkpoint) -> list[SoupMember]:
    made = []
    for i, score in enumerate((0.5, 0.7, 0.6)):
        network = load_trained(make_checkpoint(f"{i}.ckpt", FACE.only(["age"]), seed=i), CPU)
        made.append(SoupMember(f"age{i}", network, score))
    return made


def state(trained: Any) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in trained.module.state_dict().items()}


def test_a_uniform_soup(members: list[SoupMember], rows: pd.DataFrame, tmp_path: Path) -> None:
    before = [state(each.network) for each in members]
    averaged = uniform_soup(members, rows)
    assert averaged.names == ("age0", "age1", "age2")
    for name, value in state(averaged.network).items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(value, np.mean([each[name] for each in before], axis=0), atol=1e-6)
    for each, earlier in zip(members, before, strict=True):
        assert all((earlier[name] == value).all() for name, value in state(each.network).items())
    assert not averaged.network.module.training
    write_checkpoint(tmp_path / "soup.ckpt", averaged)
    again = load_trained(tmp_path / "soup.ckpt", CPU)
    assert again.spec == members[0].network.spec
    preds, same = (predict(network, rows, num_workers=0) for network in (averaged.network, again))
    np.testing.assert_array_equal(preds.probs["age"], same.probs["age"])
    MultiTaskModule.load_from_checkpoint(tmp_path / "soup.ckpt", weights_only=True)


def test_batchnorm_statistics_are_recomputed_for_the_averaged_model(
    members: list[SoupMember], rows: pd.DataFrame
) -> None:
    averaged = uniform_soup(members, rows)
    module = averaged.network.module
    norm = next(layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predict(averaged.network, rows, num_workers=0)
    handle.remove()
    values = torch.cat(seen).double().numpy()  # the first layer's input depends on no other statistics
    np.testing.assert_allclose(norm.running_mean.numpy(), values.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), values.var(axis=(0, 2, 3), ddof=1), rtol=1e-4)


def test_one_photo_renews_no_statistics(members: list[SoupMember], rows: pd.DataFrame) -> None:
    """BatchNorm cannot compute statistics of one value per channel; the averaged ones stay."""
    averaged = uniform_soup(members, rows.head(1)).network.module.state_dict()
    want = soup.average_states([each.network.module.state_dict() for each in members])
    assert all(torch.equal(averaged[name], value) for name, value in want.items())


@pytest.mark.parametrize(
    ("scores", "want", "asked"),
    [
        ({(1,): 0.7, (1, 2): 0.8, (1, 2, 0): 0.9}, "120", [(1,), (1, 2), (1, 2, 0)]),
        ({(1,): 0.6, (1, 2): 0.6, (1, 0): 0.7}, "10", [(1,), (1, 2), (1, 0)]),  # as good is good enough
        ({(1,): 0.6, (1, 2): 0.6, (1, 0): 0.6}, "1", [(1,), (1, 2), (1, 0)]),
        ({(1,): 0.6, (1, 2): 0.75, (1, 2, 0): 0.74}, "12", [(1,), (1, 2), (1, 2, 0)]),
        ({(1,): 0.8, (1, 2): 0.75, (1, 0): 0.79}, "1", [(1,), (1, 2), (1, 0)]),  # renewing it was worth more
    ],
)
def test_a_greedy_soup(
    members: list[SoupMember], rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, scores, want: str, asked
) -> None:
    def stir(networks: Any, names: Any, clean: Any) -> Any:
        return soup.Soup(replace(networks[0], source=names), tuple(names))

    scored = []

    def score(several: Any) -> float:
        scored.append(tuple(int(each.name[-1]) for each in several))
        return scores[scored[-1]]

    monkeypatch.setattr(soup, "_mix", stir)
    chosen = greedy_soup(members, rows, score)
    assert chosen.names == tuple(f"age{i}" for i in want)
    assert scored == asked


def test_a_greedy_soup_is_scored_on_people_on_whom_it_was_not_chosen(
    members: list[SoupMember], rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, make_labelled
) -> None:
    """Nine people; each soup is right on some. By hand: for every fold, the soup that is best on the other people."""
    people, targets = [f"p{i}" for i in range(9)], np.arange(9) % 3
    right = {"0": range(5), "1": range(4), "2": range(3), "01": range(3, 9), "02": (), "12": (), "012": ()}

    def predict_as(names: str) -> Predictions:
        preds = np.where(np.isin(np.arange(9), list(right[names])), targets, (targets + 1) % 3)
        return make_labelled(people, {"age": targets}, probs={"age": np.eye(3)[preds]})

    def stir(networks: Any, names: Any, clean: Any) -> Any:
        return soup.Soup(replace(networks[0], source=names), tuple(names))

    monkeypatch.setattr(soup, "_mix", stir)
    tried: list[str] = []

    def predict_soup(network: Any) -> Predictions:
        tried.append("".join(sorted(name[-1] for name in network.source)))
        return predict_as(tried[-1])

    parts = [predict_as(name) for name in "012"]
    scored = [replace(each, score=mean_score(part)) for each, part in zip(members, parts, strict=True)]
    found = cross_fitted_greedy_soup(scored, parts, rows, predict_soup)
    assert found.names == ("age0", "age1")
    assert len(tried) == len(set(tried))  # every soup is mixed once for all folds
    fold = person_folds(parts[0])
    assert fold is not None
    assert found.cross_fitted is not None
    for i in range(9):
        others = np.flatnonzero(fold != fold[i])
        value = {name: mean_score(predict_as(name).select(others)) for name in right}
        chosen = sorted("012", key=lambda name: -value[name])
        best = kept = chosen[0]
        highest = value[best]
        for more in chosen[1:]:
            mixed = "".join(sorted(kept + more))
            if value[mixed] >= highest:
                kept, highest = mixed, value[mixed]
        assert found.cross_fitted.preds["age"][i] == predict_as(kept).preds["age"][i]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, None),
        ({"seed": 1}, "different seeds, from which heads start: 0, 1"),
        ({"weights": "random"}, "different first weights: hub, random"),
        ({"backbone": "test_vit"}, "different backbones: test_resnet, test_vit"),
        ({"sharing": {"name": "attention", "squeeze": 4}}, "different kinds of sharing: hard, attention"),
    ],
)
def test_members_with_different_initial_weights_make_no_soup(other: dict[str, Any], reason: str | None) -> None:
    found = why_no_soup([member("age0"), member("age1", **other)])
    assert (reason in found) if reason and found else found == reason


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (None, {"name": "classes", "method": "corn"}, None),  # a run that predates the option `head`
        ({"name": "ordinal", "method": "corn"}, {"name": "ordinal", "method": "corn"}, None),
        (None, {"name": "regression"}, "different heads: classes, regression"),
        ({"name": "ordinal", "method": "corn"}, {"name": "ordinal", "method": "coral"}, "ordinal corn, ordinal coral"),
    ],
)
def test_members_with_different_heads_make_no_soup(first: dict | None, second: dict, reason: str | None) -> None:
    members = [member("age0"), member("age1")]
    for each, head in zip(members, (first, second), strict=True):
        each.config.update({} if head is None else {"head": head})  # type: ignore[attr-defined]
    found = why_no_soup(members)
    assert (reason in found) if reason and found else found == reason


def test_one_member_makes_no_soup() -> None:
    assert why_no_soup([member("age0")]) == "a soup takes two or more members"
