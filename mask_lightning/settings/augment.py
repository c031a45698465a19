"""Options of augmentation: changes of one photo, and mixtures of the photos of a batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Settings


class AugmentSettings(Settings):
    """RandAugment on torchvision's scale, and mirror images."""

    num_ops: Annotated[int, Field(ge=0, le=14)]
    magnitude: Annotated[int, Field(ge=0, le=30)]
    flip: Annotated[float, Field(ge=0, le=1)]
    min_area: Annotated[float, Field(gt=0, le=1)]


class MixSettings(Settings):
    """How the photos of a training batch are mixed with each other: see `data.batching.MixSpec`."""

    name: Literal["none", "mixup", "cutmix", "half_cutmix"] = "none"
    alpha: Annotated[float, Field(gt=0, le=100)] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _alpha_is_for_shares_that_are_drawn(self) -> MixSettings:
        if self.name in ("mixup", "cutmix") and self.alpha is None:
            raise ValueError(f"mix={self.name} needs mix.alpha, found null; set it, to 1 for shares of every size")
        if self.name in ("none", "half_cutmix") and self.alpha is not None:
            raise ValueError(
                f"mix.alpha is for mixup and cutmix, found {self.alpha:g} beside mix={self.name}; remove it"
            )
        return self
