"""What a task predicts with, and which options beside it make sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError
from mask_lightning.labels import AGE, AGE_CUTS, LabelSpace
from mask_lightning.settings.base import Settings, Share, refuse_others
from mask_lightning.settings.data import AgeSettings

# The options of the loss that act on no logits of classes; of the others, the ordinal head has some, too.
OF_NO_HEAD = ("task_weights",)
OF_ORDINAL = ("logit_adjustment", "class_weights")


class HeadSettings(Settings):
    """The head of the task that is an age in years; all other tasks predict classes. See `models.heads`.

    Each option is of some heads only: `method` of ordinal, `number_share` of classes_and_regression, the others of
    these two that predict a number.
    """

    name: Literal["classes", "regression", "ordinal", "classes_and_regression"] = "classes"
    method: Literal["corn", "coral"] = "corn"
    top: Annotated[int, Field(ge=AGE_CUTS[-1], le=120)] = AGE_CUTS[-1]
    sample_weights: Literal["none", "inverse"] = "inverse"
    smoothing: Annotated[float, Field(ge=0, le=30)] = 2.0
    number_share: Annotated[float, Field(gt=0, le=100)] = 0.1

    @property
    def predicts_number(self) -> bool:
        """Whether it learns from ages in years."""
        return self.name in ("regression", "classes_and_regression")

    def check(self, tasks: LabelSpace, *, ages: AgeSettings, loss: Mapping[str, Any]) -> None:
        """Refuse what cannot be, or would do nothing, for the tasks of a run.

        Args:
            tasks: that the network learns.
            ages: what of them is taught.
            loss: the options of the loss that differ from their defaults.

        Raises:
            ConfigError: naming the option.
        """
        taught = next((f"labels.age.{name}" for name in ("train_cuts", "leave_out") if getattr(ages, name)), None)
        asking = taught or (None if self.name == "classes" else f"head={self.name}")
        if asking and AGE not in tasks.tasks:
            found = "; ".join(f"{task.name} ({', '.join(task.classes)})" for task in tasks.tasks)
            raise ConfigError(
                f"{asking} is for the task age with the classes {', '.join(AGE.classes)}, found {found}; "
                f"{f'set {taught}=null' if taught else 'set head=classes'}, or train the task age"
            )
        if self.name == "regression" and ages.train_cuts:
            raise ConfigError(
                f"labels.age.train_cuts moves classes, found {ages.train_cuts} beside head=regression, which learns "
                "years and no classes; set it to null, or head=ordinal"
            )
        if ages.bin_width and not self.predicts_number:
            raise ConfigError(
                f"labels.age.bin_width is for heads that learn years, found {ages.bin_width} beside head={self.name}; "
                "set it to null, or head=regression"
            )
        if tasks.tasks == (AGE,):
            self._check_loss(loss)

    def _check_loss(self, loss: Mapping[str, Any]) -> None:
        """Where there is no other task, an option that this head's loss does not have would do nothing."""
        has = {"regression": (), "ordinal": OF_ORDINAL}.get(self.name, tuple(loss))
        for option, value in loss.items():
            if option not in (*has, *OF_NO_HEAD):
                raise ConfigError(
                    f"loss.{option} is for classes, found {value} beside head={self.name}, whose loss has no such "
                    "option; leave it out (loss=cross_entropy has none of them), or set head=classes"
                )


class SharingSettings(Settings):
    """What the tasks' networks have in common: see `models.sharing`; options are null where they are not its own."""

    name: Literal["hard", "cross_stitch", "attention", "none"] = "hard"
    own: Annotated[float, Field(gt=0, le=1)] | None = None
    squeeze: Annotated[int, Field(ge=1, le=64)] | None = None

    @model_validator(mode="after")
    def _has_its_own_options(self) -> SharingSettings:
        refuse_others("sharing", self.name, {"own": "cross_stitch", "squeeze": "attention"}, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """As plain values, without what is null."""
        return self.model_dump(exclude_none=True)

    def check(self, tasks: Sequence[str]) -> None:
        """Raises ConfigError for one task that is to have something in common with others."""
        if self.name == "cross_stitch" and len(tasks) == 1:
            raise ConfigError(
                f"sharing=cross_stitch joins the networks of two tasks or more, found {tasks[0]} alone; "
                "set sharing=hard, or task=all"
            )


class ModelSettings(Settings):
    """The network; null takes what timm says of the backbone."""

    backbone: str
    pretrained: str
    image_size: Annotated[int, Field(ge=32, le=1024)] | None
    drop_rate: Share
    drop_path_rate: Share
    compile: bool = False

    @model_validator(mode="before")
    @classmethod
    def _yaml_booleans(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("pretrained"), bool):
            return {**values, "pretrained": str(values["pretrained"]).lower()}
        return values
