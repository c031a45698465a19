"""Options of augmentation: random changes to one training photo, and mixing the photos of a batch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Settings


class AugmentSettings(Settings):
    """Random changes to a training photo: a zoom, RandAugment (Cubuk et al. 2020), and a mirror image, in that order.

    RandAugment's scale is torchvision's: magnitude 6 means 6 of 30. The zoom is torchvision's RandomResizedCrop, after
    Szegedy et al. 2015, "Going deeper with convolutions".
    """

    num_ops: Annotated[int, Field(ge=0, le=14)] = Field(3, description="RandAugment operations per photo; 0: none")
    magnitude: Annotated[int, Field(ge=0, le=30)] = Field(6, description="strength of the operations, 0 to 30")
    flip: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="probability of a mirror image")
    min_area: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="smallest share of the photo's area that a random zoom keeps; 1: no zoom"
    )


class MixSettings(Settings):
    """Mixing of the photos in a training batch: mixup (Zhang et al. 2018), CutMix (Yun et al. 2019) or half faces."""

    by_choice: ClassVar[bool] = True

    name: Literal["none", "mixup", "cutmix", "half_cutmix"] = Field(
        "none", description="how the photos of a batch are mixed; set by mix=NAME"
    )
    alpha: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None,
        description="mixup, cutmix: a batch's share is drawn from Beta(alpha, alpha), near 0 or 1 for a small alpha",
    )
    probability: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the batches that are mixed")

    @model_validator(mode="after")
    def _check_alpha(self) -> MixSettings:
        if self.name in ("mixup", "cutmix") and self.alpha is None:
            raise ValueError(f"mix={self.name} needs mix.alpha, found null; set it, to 1 for shares of every size")
        if self.name in ("none", "half_cutmix") and self.alpha is not None:
            raise ValueError(
                f"mix.alpha is for mixup and cutmix, found {self.alpha:g} beside mix={self.name}; remove it"
            )
        return self
