"""Options of the commands that export or publish a trained network, or measure runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import ONE_OR_SEVERAL, Count, Positive, Settings, required

Engine = Literal["auto", "torch", "onnx", "openvino"]
ENGINE = (
    "what computes the network: torch; onnx or openvino, which export it once and are faster on a CPU; auto: torch on "
    "a GPU or for few photos, else the fastest that is installed"
)

ExportFormat = Literal["onnx", "openvino", "torch_export", "safetensors"]
Precision = Literal["float32", "int8"]
TrainedPath = Annotated[Path, required("name a trained run: ckpt=outputs/runs/RUN, or its .ckpt")]
QUANTISED = ("onnx", "openvino")  # formats that can be int8


class ModelFolderSettings(Settings):
    """Options of the commands that write a standalone model into a new folder."""

    tta: Literal["none", "flip"] = Field("none", description="flip: also average over the mirror image, in the graph")
    licence: str = Field("unknown", description="licence of the model, for its README.md: a name such as apache-2.0")
    score_photos: Positive | None = Field(
        None, description="photos of held-out people for the comparison and the scores; null: all"
    )
    batch_size: Positive = Field(64, description="photos per batch")
    num_workers: Count | None = Field(None, description="processes that load photos; null: chosen from the cores")
    progress: bool = Field(True, description="show progress bars")
    out: Path | None = Field(None, description="folder of the model; null: a new folder below outputs")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")


class ExportSettings(ModelFolderSettings):
    """Options of `python -m mask_lightning.export`."""

    ckpt: Path | None = Field(None, description="a run folder (its best.ckpt) or a .ckpt file")
    runs: Annotated[list[Path] | None, ONE_OR_SEVERAL] = Field(
        None, description="instead of ckpt, an ensemble: a sweep, or a list of sweeps and runs: [SWEEP,RUN]"
    )
    combine: Literal["soft", "soup"] = Field(
        "soft", description="with runs, soft: one graph with the mean of the members' probabilities; soup: mean weights"
    )
    format: ExportFormat = Field("onnx", description="of the model file; safetensors needs this package to run")
    precision: Precision = Field(
        "float32", description="int8: weights and activations as 8 bit integers, calibrated on training photos"
    )
    calibrated: Literal["auto", False] = Field(
        "auto", description="auto: include the temperatures of `evaluate calibrate=true` if there are any; false: never"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> ExportSettings:
        if (self.ckpt is None) == (not self.runs):
            found = "neither" if self.ckpt is None else "both"
            raise ValueError(f"expected ckpt or runs, found {found}; set ckpt=outputs/runs/RUN, or runs=SWEEP")
        if self.combine == "soup" and not self.runs:
            raise ValueError("combine=soup is for runs, found only ckpt; set runs=SWEEP, or remove combine")
        if self.precision == "int8" and self.format not in QUANTISED:
            raise ValueError(
                f"precision=int8 is for format={' and '.join(QUANTISED)}, found format={self.format}; change one"
            )
        return self


class PushSettings(ModelFolderSettings):
    """Options of `python -m mask_lightning.push`."""

    ckpt: TrainedPath = Field(description="a run folder (its best.ckpt) or a .ckpt file")
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = Field(
        None, description="repository on the hub: USER/NAME; null: write the folder, upload nothing"
    )
    private: bool = Field(True, description="create the repository as a private one; an existing one stays as it is")

    def export_settings(self) -> ExportSettings:
        """Return the options of the export that is uploaded."""
        shared = self.model_dump(exclude={"repo", "private"})
        return ExportSettings(**shared, format="safetensors")


class BenchmarkSettings(Settings):
    """Options of `python -m mask_lightning.benchmark`."""

    ckpt: TrainedPath = Field(description="a run folder (its best.ckpt) or a .ckpt file")
    engines: Annotated[list[Literal["torch", "onnx", "openvino"]], Field(min_length=1)] | None = Field(
        None, description="what computes the network; null: all that are installed"
    )
    precisions: Annotated[list[Precision], Field(min_length=1)] = Field(
        ["float32", "int8"], description="int8 is for onnx and openvino, and needs the training photos"
    )
    batch_sizes: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1, 8, 32], description="photos per call, each measured"
    )
    seconds: Annotated[float, Field(gt=0)] = Field(3.0, description="duration of each measurement, after warming up")
    score_photos: Count | None = Field(
        None, description="photos of held-out people for the scores; null: all; 0: no scores"
    )
    threads: Positive | None = Field(None, description="threads of the network; null: one per core")
    batch_size: Positive = Field(64, description="photos per batch while scoring")
    num_workers: Count | None = Field(None, description="processes that load photos; null: chosen from the cores")
    progress: bool = Field(True, description="show progress bars")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")
