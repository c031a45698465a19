"""What is frozen stands still to the last bit, in a real fit with weight decay, validation and resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.optim.phases import Phase

GROUPS = ["stem", "block1", "block2", "block3", "block4", "heads"]
# Where each group's modules are in the network: test_resnet has one block per layer.
PLACE = {
    "stem": ("network.sharing.backbone.conv1.", "network.sharing.backbone.bn1."),
    **{f"block{i}": (f"network.sharing.backbone.layer{i}.",) for i in range(1, 5)},
    "heads": ("network.heads.",),
}
State = dict[str, Tensor]


def group_of(name: str) -> str:
    (group,) = (group for group, prefixes in PLACE.items() if name.startswith(prefixes))
    return group


def snapshot(module: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before: State, after: State) -> set[str]:
    """Groups of which a parameter or running statistic changed; checks that none changed in part."""
    changed: dict[str, set[bool]] = {}
    for name, value in after.items():
        changed.setdefault(group_of(name), set()).add(not torch.equal(before[name], value))
    assert all(len(answers) == 1 for answers in changed.values()), changed
    return {group for group, answers in changed.items() if answers == {True}}


class Spy(pl.Callback):
    """Notes the state at the end of every epoch, and which modules built an autograd graph in training."""

    def __init__(self, module: nn.Module) -> None:
        self.states = [snapshot(module)]
        self.with_graph: list[set[str]] = []
        self.momenta: list[set[str]] = []
        for name, child in module.named_modules():
            if list(child.parameters(recurse=False)):
                child.register_forward_hook(self.note(f"{name}."))

    def note(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.requires_grad:
                self.with_graph[-1].add(group_of(name))

        return hook

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.with_graph.append(set())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(snapshot(pl_module))
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        self.momenta.append({group_of(names[parameter]) for parameter in trainer.optimizers[0].state})

    @property
    def moved(self) -> list[set[str]]:
        return [moved(before, after) for before, after in zip(self.states, self.states[1:], strict=False)]


def run(fit, network, phases: list[Phase], **options: Any) -> Spy:
    spy = Spy(network)
    callback = PhasedFinetuning(phases, network.network.layer_groups())
    fit(network, callback, spy, epochs=options.pop("epochs", sum(phase.epochs for phase in phases)), **options)
    return spy


@pytest.mark.parametrize(
    ("unfreeze", "opened"),
    [
        ("heads", {"heads"}),
        ({"last": 1}, {"block4", "heads"}),
        ({"last": 3}, {"block2", "block3", "block4", "heads"}),
        ("all", set(GROUPS)),
        (["stem", "block2"], {"stem", "block2"}),
    ],
)
def test_just_the_open_groups_move_and_only_they_build_a_graph(fit, network, unfreeze: Any, opened: set[str]) -> None:
    """Two epochs with validation between: Lightning switches to eval mode and back."""
    spy = run(fit, network, [Phase(2, unfreeze)])
    lowest = min(GROUPS.index(group) for group in opened)
    assert spy.moved == [opened, opened]
    assert spy.with_graph == [set(GROUPS[lowest:])] * 2
    assert spy.momenta == [opened, opened]


def test_phases_follow_one_another(fit, network, caplog: pytest.LogCaptureFixture) -> None:
    phases = [Phase(1, "heads"), Phase(2, {"last": 2}), Phase(1, "all"), Phase(1, ["heads"])]
    with caplog.at_level(logging.INFO, logger="mask_lightning"):
        spy = run(fit, network, phases)
    upper = {"block3", "block4", "heads"}
    assert spy.moved == [{"heads"}, upper, upper, set(GROUPS), {"heads"}]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mask_lightning")]
    assert said == [
        "phase 1 of 4: heads learns",
        "phase 2 of 4: last 2 learns",
        "phase 3 of 4: all learns",
        "phase 4 of 4: heads learns",
    ]


def test_the_last_phase_goes_on(fit, network) -> None:
    assert run(fit, network, [Phase(1, "all"), Phase(1, "heads")], epochs=3).moved[-1] == {"heads"}


def test_norms_that_open_again_learn_their_statistics_again(fit, network) -> None:
    spy = run(fit, network, [Phase(1, "heads"), Phase(1, "all")])
    means = [name for name in spy.states[0] if name.endswith("running_mean")]
    assert len(means) == 15
    assert all(torch.equal(spy.states[0][name], spy.states[1][name]) for name in means)
    assert not any(torch.equal(spy.states[1][name], spy.states[2][name]) for name in means)


def test_frozen_groups_hold_no_gradients(fit, network) -> None:
    run(fit, network, [Phase(1, "all"), Phase(1, "heads")])
    assert all(parameter.grad is None for parameter in network.network.sharing.backbone.parameters())
    assert not any(parameter.requires_grad for parameter in network.network.sharing.backbone.parameters())


def test_a_resumed_run_is_in_the_phase_of_its_epoch(fit, network, tmp_path: Path) -> None:
    phases = [Phase(1, "all"), Phase(2, {"last": 1})]
    finetuning = PhasedFinetuning(phases, network.network.layer_groups())
    trainer = fit(network, finetuning, epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fresh = type(network)()
    fresh.load_state_dict(network.state_dict())
    spy = run(fit, fresh, phases, epochs=3, resume=tmp_path / "last.ckpt")
    assert spy.moved == [{"block4", "heads"}]


def test_resuming_in_a_later_phase_ends_where_the_whole_run_does(fit, network, tmp_path: Path) -> None:
    phases = [Phase(1, "heads"), Phase(2, "all")]
    half = type(network)()
    trainer = fit(half, PhasedFinetuning(phases, half.network.layer_groups()), epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest = type(network)()
    whole, resumed = run(fit, network, phases), run(fit, rest, phases, epochs=3, resume=tmp_path / "last.ckpt")
    assert whole.states[-1].keys() == resumed.states[-1].keys()
    assert all(torch.equal(value, resumed.states[-1][name]) for name, value in whole.states[-1].items())
