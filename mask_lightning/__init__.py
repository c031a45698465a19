"""Multi-task face classification in PyTorch Lightning with fastai's comforts.

The reusable parts are imported on first use, so that `import mask_lightning` does not load torch.

Example:
    >>> from mask_lightning import LRRangeTest, PhasedFinetuning, Ranger
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mask_lightning.callbacks.lr_range_test import LRRangeTest
    from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
    from mask_lightning.data.datamodule import FaceDataModule
    from mask_lightning.engine.modules import MultiTaskModule, SingleTaskModule
    from mask_lightning.optim.ranger import Ranger

__version__ = "0.1.0"
__all__ = ["FaceDataModule", "LRRangeTest", "MultiTaskModule", "PhasedFinetuning", "Ranger", "SingleTaskModule"]

_HOME = {
    "FaceDataModule": "data.datamodule",
    "LRRangeTest": "callbacks.lr_range_test",
    "MultiTaskModule": "engine.modules",
    "PhasedFinetuning": "callbacks.phased_finetuning",
    "Ranger": "optim.ranger",
    "SingleTaskModule": "engine.modules",
}


def __getattr__(name: str) -> Any:
    """Import a reusable part on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the reusable parts beside the module's own names."""
    return sorted({*globals(), *__all__})
