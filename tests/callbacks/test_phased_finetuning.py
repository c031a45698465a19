"""Frozen groups stay equal bit for bit in a real fit with weight decay, validation and resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.errors import ConfigError
from mask_lightning.settings.optim import PhaseSettings

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
    """Return the groups whose parameters and running statistics changed; check that none changed in part."""
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


def run(fit, network, phases: list[PhaseSettings], **options: Any) -> Spy:
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
def test_only_open_groups_change_and_build_a_graph(fit, network, unfreeze: Any, opened: set[str]) -> None:
    """Two epochs with validation between: Lightning switches to eval mode and back."""
    spy = run(fit, network, [PhaseSettings(epochs=2, unfreeze=unfreeze)])
    lowest = min(GROUPS.index(group) for group in opened)
    assert spy.moved == [opened, opened]
    assert spy.with_graph == [set(GROUPS[lowest:])] * 2
    assert spy.momenta == [opened, opened]


def test_phases_follow_one_another(fit, network, caplog: pytest.LogCaptureFixture) -> None:
    phases = [
        PhaseSettings(epochs=1, unfreeze="heads"),
        PhaseSettings(epochs=2, unfreeze={"last": 2}),
        PhaseSettings(epochs=1, unfreeze="all"),
        PhaseSettings(epochs=1, unfreeze=["heads"]),
    ]
    with caplog.at_level(logging.INFO, logger="mask_lightning"):
        spy = run(fit, network, phases)
    upper = {"block3", "block4", "heads"}
    assert spy.moved == [{"heads"}, upper, upper, set(GROUPS), {"heads"}]
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("mask_lightning")]
    assert messages == [
        "phase 1 of 4: training heads",
        "phase 2 of 4: training last 2",
        "phase 3 of 4: training all",
        "phase 4 of 4: training heads",
    ]


def test_the_last_phase_continues(fit, network) -> None:
    assert run(
        fit, network, [PhaseSettings(epochs=1, unfreeze="all"), PhaseSettings(epochs=1, unfreeze="heads")], epochs=3
    ).moved[-1] == {"heads"}


def test_unfrozen_norms_update_their_statistics_again(fit, network) -> None:
    spy = run(fit, network, [PhaseSettings(epochs=1, unfreeze="heads"), PhaseSettings(epochs=1, unfreeze="all")])
    means = [name for name in spy.states[0] if name.endswith("running_mean")]
    assert len(means) == 15
    assert all(torch.equal(spy.states[0][name], spy.states[1][name]) for name in means)
    assert not any(torch.equal(spy.states[1][name], spy.states[2][name]) for name in means)


def test_frozen_groups_hold_no_gradients(fit, network) -> None:
    run(fit, network, [PhaseSettings(epochs=1, unfreeze="all"), PhaseSettings(epochs=1, unfreeze="heads")])
    assert all(parameter.grad is None for parameter in network.network.sharing.backbone.parameters())
    assert not any(parameter.requires_grad for parameter in network.network.sharing.backbone.parameters())


def test_all_groups_are_open_when_ddp_wraps_the_module(fit, network, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDP never synchronises parameters that are frozen then; an earlier fit leaves some frozen."""
    seen: list[bool] = []
    setup = SingleDeviceStrategy.setup

    def noted(self: SingleDeviceStrategy, trainer: pl.Trainer) -> None:
        seen.append(all(parameter.requires_grad for parameter in trainer.lightning_module.parameters()))
        setup(self, trainer)

    monkeypatch.setattr(SingleDeviceStrategy, "setup", noted)
    assert run(fit, network, [PhaseSettings(epochs=1, unfreeze="heads")]).moved == [{"heads"}]
    assert run(fit, network, [PhaseSettings(epochs=1, unfreeze={"last": 1})]).moved == [{"block4", "heads"}]
    assert run(fit, network, [PhaseSettings(epochs=1, unfreeze="all")]).moved == [set(GROUPS)]
    assert seen == [True, True, True]


def test_a_callback_that_is_used_again_freezes_again(fit, network) -> None:
    callback = PhasedFinetuning([PhaseSettings(epochs=1, unfreeze="heads")], network.network.layer_groups())
    for _ in range(2):
        before = snapshot(network)
        fit(network, callback, epochs=1)
        assert moved(before, snapshot(network)) == {"heads"}


def test_a_resumed_run_is_in_the_right_phase(fit, network, tmp_path: Path) -> None:
    phases = [PhaseSettings(epochs=1, unfreeze="all"), PhaseSettings(epochs=2, unfreeze={"last": 1})]
    finetuning = PhasedFinetuning(phases, network.network.layer_groups())
    trainer = fit(network, finetuning, epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fresh = type(network)()
    fresh.load_state_dict(network.state_dict())
    spy = run(fit, fresh, phases, epochs=3, resume=tmp_path / "last.ckpt")
    assert spy.moved == [{"block4", "heads"}]


def test_resuming_in_a_later_phase_equals_an_uninterrupted_run(fit, network, tmp_path: Path) -> None:
    phases = [PhaseSettings(epochs=1, unfreeze="heads"), PhaseSettings(epochs=2, unfreeze="all")]
    half = type(network)()
    trainer = fit(half, PhasedFinetuning(phases, half.network.layer_groups()), epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest = type(network)()
    whole, resumed = run(fit, network, phases), run(fit, rest, phases, epochs=3, resume=tmp_path / "last.ckpt")
    assert whole.states[-1].keys() == resumed.states[-1].keys()
    assert all(torch.equal(value, resumed.states[-1][name]) for name, value in whole.states[-1].items())


class Plain(pl.LightningModule):
    """A module of a user's own, without layer groups."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.head(self.body(batch)).square().mean()
        return loss

    def train_dataloader(self) -> Any:
        return DataLoader(torch.ones(8, 3), batch_size=4)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def test_a_plain_module_needs_only_named_groups(fit) -> None:
    """Groups may be modules or parameters."""
    module = Plain()
    before = snapshot(module)
    groups = {"body": module.body, "heads": module.head.parameters()}
    fit(module, PhasedFinetuning([PhaseSettings(epochs=1, unfreeze="heads")], groups), epochs=1)
    after = snapshot(module)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_a_phase_that_trains_no_group_is_an_error(fit) -> None:
    module = Plain()
    groups = {"body": module.body, "head": module.head}
    with pytest.raises(ConfigError, match="expected a layer group 'heads', which a phase trains, found body, head"):
        fit(module, PhasedFinetuning([PhaseSettings(epochs=1, unfreeze="heads")], groups), epochs=1)
