"""Options of the network: backbone, sharing between the tasks, and the head of the task age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError
from mask_lightning.labels import AGE, AGE_CUTS, LabelSpace
from mask_lightning.settings.base import Settings, Share, refuse_others
from mask_lightning.settings.data import AgeSettings
from mask_lightning.settings.loss import ORDINAL_LOSS_OPTIONS


class HeadSettings(Settings):
    """Head of the task age (`models.heads`); all other tasks have a logit per class.

    method belongs to ordinal; top, sample_weights and smoothing to regression and classes_and_regression; number_share
    to classes_and_regression.
    """

    by_choice: ClassVar[bool] = True

    name: Annotated[
        Literal["classes", "regression", "ordinal", "classes_and_regression"],
        Field(description="what the head predicts: a logit per class, the age in years, ordered classes, or both"),
    ] = "classes"
    method: Annotated[Literal["corn", "coral"], Field(description="model of the ordered classes")] = "corn"
    top: Annotated[
        int, Field(ge=AGE_CUTS[-1], le=120, description="largest age that can be predicted; older ages count as this")
    ] = AGE_CUTS[-1]
    sample_weights: Annotated[
        Literal["none", "inverse"], Field(description="inverse weights each age by its inverse frequency")
    ] = "inverse"
    smoothing: Annotated[
        float, Field(ge=0, le=30, description="years; frequencies are smoothed over neighbouring ages; 0 turns it off")
    ] = 2.0
    number_share: Annotated[
        float, Field(gt=0, le=100, description="weight of the loss in years beside the loss of the classes")
    ] = 0.1

    @property
    def predicts_number(self) -> bool:
        """True if the head learns from ages in years."""
        return self.name in ("regression", "classes_and_regression")

    def check(self, tasks: LabelSpace, *, ages: AgeSettings, loss: Mapping[str, Any]) -> None:
        """Refuse options that cannot work, or would have no effect, for the tasks of a run.

        Args:
            tasks: the tasks that the network learns.
            ages: how the targets of the task age are made.
            loss: the options of the loss that differ from their defaults.

        Raises:
            ConfigError: naming the option.
        """
        age_option = next((f"labels.age.{name}" for name in ("train_cuts", "leave_out") if getattr(ages, name)), None)
        needs_age = age_option or (None if self.name == "classes" else f"head={self.name}")
        if needs_age and AGE not in tasks.tasks:
            found = "; ".join(f"{task.name} ({', '.join(task.classes)})" for task in tasks.tasks)
            raise ConfigError(
                f"{needs_age} is for the task age with the classes {', '.join(AGE.classes)}, found {found}; "
                f"{f'set {age_option}=null' if age_option else 'set head=classes'}, or train the task age"
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
        """Refuse options that the loss of this head lacks: without another task they would have no effect."""
        taken = {"regression": (), "ordinal": ORDINAL_LOSS_OPTIONS}.get(self.name, tuple(loss))
        for option, value in loss.items():
            if option not in (*taken, "task_weights", "consistency", "consistency_tasks"):
                raise ConfigError(
                    f"loss.{option} is for classes, found {value} beside head={self.name}, whose loss has no such "
                    "option; leave it out (loss=cross_entropy has none of them), or set head=classes"
                )


class SharingSettings(Settings):
    """Way in which the tasks share backbones (`models.sharing`)."""

    by_choice: ClassVar[bool] = True

    name: Annotated[
        Literal["hard", "cross_stitch", "attention", "none"],
        Field(
            description="hard: one backbone; none: one per task; cross_stitch: one per task, with mixed feature maps; "
            "attention: one, with a mask per task"
        ),
    ] = "hard"
    own: Annotated[
        float | None,
        Field(gt=0, le=1, description="of cross_stitch only: initial share of a task's own feature map in the mixture"),
    ] = None
    squeeze: Annotated[
        int | None,
        Field(ge=1, le=64, description="of attention only: channels of a feature map divided by hidden channels"),
    ] = None

    @model_validator(mode="after")
    def _check_own_options(self) -> SharingSettings:
        refuse_others("sharing", self.name, {"own": "cross_stitch", "squeeze": "attention"}, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The name and the options that are set, as plain values."""
        return self.model_dump(exclude_none=True)

    def check(self, tasks: Sequence[str]) -> None:
        """Raise ConfigError for cross-stitch units in a network of a single task."""
        if self.name == "cross_stitch" and len(tasks) == 1:
            raise ConfigError(
                f"sharing=cross_stitch joins the networks of two tasks or more, found {tasks[0]} alone; "
                "set sharing=hard, or task=all"
            )


class ModelSettings(Settings):
    """Backbone, and where its weights come from."""

    backbone: Annotated[str, Field(description="name of a timm classifier, such as resnet34")]
    pretrained: Annotated[
        Literal["auto"] | bool | Path,
        Field(
            description="auto: pretrained weights if they can be found; true: fail without them; false: train from "
            "scratch; or the path of a run, a checkpoint or a state dict (.safetensors, .pt, .pth)"
        ),
    ] = "auto"
    keep_heads: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="with pretrained=RUN: also load the heads of tasks with the same classes and kind of head; "
            "on: an error if a task has none"
        ),
    ] = "auto"
    image_size: Annotated[
        int | None,
        Field(
            ge=32, le=1024, description="side of the photos, pixels; null: the size that timm's weights were trained on"
        ),
    ] = None
    drop_rate: Annotated[Share, Field(description="dropout before each head")] = 0.0
    drop_path_rate: Annotated[Share, Field(description="stochastic depth in the backbone")] = 0.0
    compile: Annotated[
        bool, Field(description="use torch.compile, for long runs on a GPU; the first steps take minutes")
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _read_on_and_off(cls, values: Any) -> Any:
        """YAML reads keep_heads=on as a boolean."""
        if not isinstance(values, Mapping) or not isinstance(values.get("keep_heads"), bool):
            return values
        return {**values, "keep_heads": "on" if values["keep_heads"] else "off"}

    @model_validator(mode="after")
    def _heads_have_a_source(self) -> ModelSettings:
        if self.keep_heads == "on" and self.pretrained_path is None:
            raise ValueError(
                f"model.keep_heads=on takes the heads of a run, found model.pretrained={self.pretrained}, which has "
                "none; set model.pretrained=RUN, or model.keep_heads=auto"
            )
        return self

    @property
    def pretrained_path(self) -> Path | None:
        """Path of the run or file to start from; None for weights that are found by the backbone's name."""
        return self.pretrained if isinstance(self.pretrained, Path) else None
