"""Options of optimization: optimizer, learning rate, schedule, phases and weight averaging."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from mask_lightning.settings.base import LearningRate, Positive, Ratio, Settings

OwnOptimizer = Literal["adamw", "ranger", "sgd"]
"""Names in optim.optimizers.OPTIMIZERS."""


class OptimSettings(Settings):
    """Optimizer, learning rate and weight decay.

    Further options are arguments of the optimizer; `optim.optimizers.make_optimizer` checks them.
    """

    model_config = ConfigDict(extra="allow")
    by_choice: ClassVar[bool] = True

    library: Annotated[
        Literal["own", "timm"],
        Field(description="own: one of optim.optimizers.OPTIMIZERS; timm: any optimizer of timm's factory"),
    ] = "own"
    name: Annotated[str, Field(description="name of the optimizer; with optim=timm such as lamb, lion or nadamw")]
    lr: Annotated[
        LearningRate | Literal["auto"],
        Field(description="largest learning rate of the heads; auto runs an LR range test first"),
    ]
    weight_decay: Annotated[
        float, Field(ge=0, le=10, description="decoupled weight decay; biases and norms are not decayed")
    ]

    @model_validator(mode="after")
    def _check_name(self) -> OptimSettings:
        known = get_args(OwnOptimizer)
        if self.library == "own" and self.name not in known:
            names = ", ".join(map(repr, known[:-1]))
            raise ValueError(
                f"optim.name must be {names} or {known[-1]!r}, got {self.name!r}; set optim.name to one of these, "
                f"or take timm's: optim=timm optim.name={self.name}"
            )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The optimizer's arguments other than lr and weight_decay."""
        return dict(self.model_extra or {})


class RangeTestSettings(Settings):
    """LR range test, run by find_lr and for `optim.lr=auto` (`callbacks.lr_range_test`)."""

    start_lr: Annotated[LearningRate, Field(description="first learning rate of the group with the largest lr")] = 1e-7
    end_lr: Annotated[LearningRate, Field(description="last learning rate, unless the loss diverges before")] = 10.0
    num_steps: Annotated[int, Field(ge=10, description="optimizer steps from start_lr to end_lr")] = 100
    phase: Annotated[
        Positive, Field(description="the phase of finetune.phases, counted from 1, whose groups are trained")
    ] = 1
    suggestion: Annotated[
        Literal["valley", "steep", "slide", "minimum"],
        Field(
            description="rule that chooses the lr: minimum is a tenth of the lr with the lowest loss; valley is "
            "fastai's default, smaller"
        ),
    ] = "minimum"

    @model_validator(mode="after")
    def _check_order(self) -> RangeTestSettings:
        if self.start_lr >= self.end_lr:
            raise ValueError(
                f"range_test.end_lr must be greater than range_test.start_lr, got {self.end_lr:g} and "
                f"{self.start_lr:g}; raise end_lr"
            )
        return self


class ScheduleSettings(Settings):
    """Curve of learning rate and momentum over a phase.

    Further options are arguments of the schedule's function; `optim.schedules.make_schedule` checks them.
    """

    model_config = ConfigDict(extra="allow")
    by_choice: ClassVar[bool] = True

    name: Annotated[
        Literal["one_cycle", "flat_cosine", "cosine", "constant"],
        Field(description="one of optim.schedules.SCHEDULES"),
    ]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the schedule's function."""
        return dict(self.model_extra or {})


class LastBlocks(Settings):
    """The last n layer groups of the backbone, and the heads."""

    last: Annotated[Positive, Field(description="number of layer groups, counted from the heads")]


class PhaseSettings(Settings):
    """Part of a run during which the same layer groups are trained, an entry of `finetune.phases`.

    The functions that read it are in `optim.phases`. As text it is what is trained, such as "last 6 at 128 px".
    """

    epochs: Annotated[Positive, Field(description="length of the phase")]
    unfreeze: Annotated[
        LastBlocks | str | Annotated[list[str], Field(min_length=1)],
        Field(description="trained layer groups: all, heads, {last: n}, or names"),
    ] = "all"
    lr_scale: Annotated[float, Field(gt=0, description="largest lr of the heads, as a multiple of optim.lr")] = 1.0
    lr_ratio: Annotated[
        Ratio,
        Field(
            description="lr of the heads divided by lr of the first layer group; groups between are spaced evenly in "
            "log lr, as fastai's slice(lr / lr_ratio, lr)"
        ),
    ] = 1.0
    layer_decay: Annotated[
        float | None,
        Field(gt=0, le=1, description="lr of a layer group divided by lr of the next one; replaces lr_ratio"),
    ] = None
    schedule: Annotated[
        dict[str, Any],
        Field(description="options that replace those of schedule in this phase; with another name, all of them"),
    ] = Field(default_factory=dict)
    image_size: Annotated[
        int | None, Field(ge=32, le=1024, description="side of the training photos, pixels; null is the model's size")
    ] = None

    def __str__(self) -> str:
        size = f" at {self.image_size} px" if self.image_size else ""
        if isinstance(self.unfreeze, LastBlocks):
            return f"last {self.unfreeze.last}{size}"
        return (self.unfreeze if isinstance(self.unfreeze, str) else ", ".join(self.unfreeze)) + size


class FinetuneSettings(Settings):
    """Phases of a run, and a linear probe before them.

    epochs, frozen_epochs, lr_ratio and layer_decay are shortcuts that the files of conf/finetune use in their phases.
    """

    by_choice: ClassVar[bool] = True

    probe: Annotated[
        bool, Field(description="first fit the heads to the features of the backbone by logistic regression")
    ] = False
    epochs: Annotated[Positive | None, Field(description="epochs of the last phase; of each phase in progressive")] = (
        None
    )
    frozen_epochs: Annotated[Positive | None, Field(description="epochs of the first phase, if part is frozen")] = None
    lr_ratio: Annotated[Ratio, Field(description="lr_ratio of the phases that train everything")] = 1.0
    layer_decay: Annotated[
        float | None, Field(gt=0, le=1, description="layer_decay of the phases; replaces lr_ratio")
    ] = None
    phases: Annotated[list[PhaseSettings], Field(description="the phases, in order; [] with a probe: nothing else")]

    @model_validator(mode="after")
    def _trains_something(self) -> FinetuneSettings:
        if not self.phases and not self.probe:
            raise ValueError("finetune.phases must have at least one phase, found none; add one, or set finetune=probe")
        return self


class AveragingSettings(Settings):
    """Exponential moving average of the weights (`callbacks.weight_averaging`)."""

    decay: Annotated[
        float | None, Field(gt=0, lt=1, description="share of the old average at each step; null averages nothing")
    ] = None
