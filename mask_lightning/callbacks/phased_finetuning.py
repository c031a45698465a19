"""Freeze and unfreeze layer groups in phases."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.errors import ConfigError
from mask_lightning.optim.phases import phase_of_epoch, trainable_groups
from mask_lightning.settings.optim import PhaseSettings

log = logging.getLogger(__name__)

LayerGroup = nn.Module | Mapping[str, nn.Parameter] | Iterable[nn.Parameter]


class PhasedFinetuning(OrderedCallback):
    """Train only the open layer groups of each phase; entering a phase freezes all others.

    A frozen group is neither updated nor decayed (its gradients are None), builds no autograd graph below the first
    open group, and its BatchNorm stays in eval mode: in train mode its running statistics would drift.

    Works with any LightningModule whose optimizer contains the parameters of all groups from the start (param groups
    that are added later break OneCycleLR and LambdaLR). The phase follows from the epoch alone, so the callback has no
    state and a resumed run continues in the right phase. Method: gradual unfreezing, Howard & Ruder 2018,
    https://arxiv.org/abs/1801.06146

    Args:
        phases: in order; the last one goes on if the fit has more epochs. The callback uses their `epochs` and
            `unfreeze`; the lrs are the optimizer's and the scheduler's.
        layer_groups: group name -> module or parameters, from the image up. `unfreeze="heads"` and `{"last": n}`
            expect the last group to be called `heads`.

    Raises:
        ConfigError: at the start of the fit, a phase that names no group of these.

    Example:
        >>> model = nn.ModuleDict({"body": nn.Linear(4, 8), "head": nn.Linear(8, 2)})
        >>> phases = [PhaseSettings(epochs=1, unfreeze="heads"), PhaseSettings(epochs=3, unfreeze="all")]
        >>> callback = PhasedFinetuning(phases, {"body": model["body"], "heads": model["head"]})
        >>> trainer = pl.Trainer(max_epochs=4, callbacks=[callback], logger=False, enable_checkpointing=False)
    """

    order = Order.FREEZE

    def __init__(self, phases: Sequence[PhaseSettings], layer_groups: Mapping[str, LayerGroup]) -> None:
        self.phases = list(phases)
        self.layer_groups = {name: _parameters(group) for name, group in layer_groups.items()}
        self._phase: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open all groups before DDP wraps the module: it never synchronises parameters that are frozen then.

        An earlier fit leaves the groups of its last phase frozen.
        """
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._phase = None
            for parameters in self.layer_groups.values():
                for parameter in parameters:
                    parameter.requires_grad_(True)
            set_norm_modes(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter the phase: Lightning skips `on_train_epoch_start` when it resumes in the middle of an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter the phase of the epoch, and set the modes of its norms."""
        index = phase_of_epoch(self.phases, trainer.current_epoch)
        if index != self._phase:
            self._phase = index
            self._freeze_all_but(self._open_groups(self.phases[index]))
            log.info("phase %d of %d: training %s", index + 1, len(self.phases), self.phases[index])
        set_norm_modes(pl_module)

    def _open_groups(self, phase: PhaseSettings) -> tuple[str, ...]:
        open_groups = trainable_groups(phase, list(self.layer_groups))
        unknown = [name for name in open_groups if name not in self.layer_groups]
        if unknown:
            raise ConfigError(
                f"expected a layer group {unknown[0]!r}, which a phase trains, found {', '.join(self.layer_groups)}; "
                "rename a group, or list names in `unfreeze`"
            )
        return open_groups

    def _freeze_all_but(self, open_groups: Sequence[str]) -> None:
        for name, parameters in self.layer_groups.items():
            for parameter in parameters:
                parameter.requires_grad_(name in open_groups)
                if name not in open_groups:
                    parameter.grad = None


def set_norm_modes(model: nn.Module) -> None:
    """Set norms with running statistics to eval mode if their own parameters are frozen, else to train mode.

    Both directions are needed: Lightning keeps the modes that it finds, so an unfrozen norm would stay in eval mode.
    """
    for module in model.modules():
        if isinstance(module, _NormBase):
            own = list(module.parameters(recurse=False))
            if own:
                module.train(any(parameter.requires_grad for parameter in own))


def _parameters(group: LayerGroup) -> list[nn.Parameter]:
    if isinstance(group, nn.Module):
        return list(group.parameters())
    return list(group.values() if isinstance(group, Mapping) else group)
