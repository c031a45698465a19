"""Options of augmentation: random changes to one training photo, and mixing the photos of a batch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Settings


class AugmentSettings(Settings):
    """Random changes to a training photo, in this order: zoom, RandAugment or TrivialAugment, mirror image, erasing.

    RandAugment (Cubuk et al. 2020, arXiv:1909.13719): its scale is torchvision's, so magnitude 6 means 6 of 30.
    TrivialAugment (Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation",
    arXiv:2103.10158) applies one operation of random strength. The zoom is torchvision's RandomResizedCrop, after
    Szegedy et al. 2015, "Going deeper with convolutions". Erasing is Random Erasing (Zhong et al. 2020,
    arXiv:1708.04896).
    """

    num_ops: Annotated[int, Field(ge=0, le=14)] = Field(3, description="RandAugment operations per photo; 0: none")
    magnitude: Annotated[int, Field(ge=0, le=30)] = Field(6, description="strength of the operations, 0 to 30")
    trivial: bool = Field(False, description="TrivialAugment, which has no options, in place of RandAugment")
    flip: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="probability of a mirror image")
    erase: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="probability of a grey rectangle over 2 to 33 % of the photo"
    )
    min_area: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="smallest share of the photo's area that a random zoom keeps; 1: no zoom"
    )

    @model_validator(mode="after")
    def _check_policies(self) -> AugmentSettings:
        if self.trivial and self.num_ops:
            raise ValueError(
                f"augment.trivial=true takes the place of RandAugment, found augment.num_ops={self.num_ops}; "
                "set that to 0, or augment=trivialaugment"
            )
        return self

    @property
    def cpu_only(self) -> str | None:
        """Name of an option that works on single photos on the CPU only; None if there is none."""
        return next((f"augment.{name}" for name in ("trivial", "erase") if getattr(self, name)), None)


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
