"""Opens and freezes layer groups as the phases of a run say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mask_lightning.optim.phases import Phase, phase_of_epoch

log = logging.getLogger(__name__)


class PhasedFinetuning(pl.Callback):
    """At the start of each epoch, makes just the open groups of its phase learn.

    A frozen group is not updated or decayed (its gradients are None), builds no autograd graph below the first
    open group, and its BatchNorm stays in eval mode: in train mode its running statistics would drift. Works on
    any LightningModule whose optimizer holds all groups from the start; keeps no state, so a resumed run is in the
    right phase by its epoch alone.

    Args:
        phases: the phases, in order.
        layer_groups: group name -> parameters, from the image up.
    """

    def __init__(self, phases: Sequence[Phase], layer_groups: Mapping[str, Mapping[str, nn.Parameter]]) -> None:
        self.phases = list(phases)
        self.layer_groups = layer_groups
        self._phase: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of an epoch that is resumed in its middle Lightning tells no start."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter the epoch's phase; set the modes of its norms."""
        index = phase_of_epoch(self.phases, trainer.current_epoch)
        opened = self.phases[index].open_groups(list(self.layer_groups))
        if index != self._phase:
            self._phase = index
            self._freeze_all_but(opened)
            log.info("phase %d of %d: %s learns", index + 1, len(self.phases), self.phases[index])
        set_norm_modes(pl_module)

    def _freeze_all_but(self, opened: Sequence[str]) -> None:
        for name, parameters in self.layer_groups.items():
            for parameter in parameters.values():
                parameter.requires_grad_(name in opened)
                if name not in opened:
                    parameter.grad = None


def set_norm_modes(model: nn.Module) -> None:
    """Put norms with running statistics into eval mode where their own parameters are frozen, else into train mode.

    Both ways: Lightning keeps the modes that it finds, so that a thawed norm would stay in eval mode.
    """
    for module in model.modules():
        if isinstance(module, _NormBase):
            own = list(module.parameters(recurse=False))
            if own:
                module.train(any(parameter.requires_grad for parameter in own))
