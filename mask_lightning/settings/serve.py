"""Options of the command that serves a trained network over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Count, Positive, Settings
from mask_lightning.settings.export import ENGINE, Engine, TrainedPath

Seconds = Annotated[float, Field(gt=0, le=3600)]
Megabytes = Annotated[float, Field(gt=0, le=1024)]


class ServeSettings(Settings):
    """Options of `python -m mask_lightning.serve`."""

    ckpt: TrainedPath = Field(description="a run folder (its best.ckpt), a .ckpt file, or an exported model")
    host: Literal["127.0.0.1", "0.0.0.0", "::"] = Field(
        "127.0.0.1", description="address to listen on: 127.0.0.1: this machine only; 0.0.0.0 or ::: every network"
    )
    port: Annotated[int, Field(ge=1024, le=65535)] = Field(8000, description="port to listen on")
    engine: Engine = Field("auto", description=f"{ENGINE}; a server counts as many photos")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="where to predict")
    calibrated: Literal["auto", False] = Field(
        "auto", description="auto: apply the temperatures of `evaluate calibrate=true` if there are any; false: never"
    )
    max_faces: Positive | None = Field(50, description="faces per photo, the largest ones; null: all")
    min_size: Count = Field(20, description="leave out faces whose box is lower than this, in pixels")
    max_batch_size: Positive = Field(8, description="requests that are predicted together")
    batch_timeout: Annotated[float, Field(ge=0, le=10)] = Field(
        0.01, description="seconds that a request waits for others, to be predicted together"
    )
    workers: Positive = Field(1, description="processes that decode and predict, each with a network (per GPU)")
    timeout: Seconds = Field(30.0, description="seconds after which a request is answered with an error")
    max_waiting: Positive = Field(64, description="requests at once; further ones are answered with status 429")
    max_photos: Positive = Field(16, description="photos per request")
    max_photo_mb: Megabytes = Field(16.0, description="megabytes per photo")
    max_request_mb: Megabytes = Field(48.0, description="megabytes per request")
    max_megapixels: Annotated[float, Field(gt=0, le=200)] = Field(50.0, description="megapixels per photo")
    keep: Path | None = Field(None, description="store every photo in this folder; null: no photo is written to a disk")
    outputs: Path = Field(Path("outputs"), description="networks that an engine has exported are below this folder")

    @model_validator(mode="after")
    def _limits_fit_together(self) -> ServeSettings:
        if self.max_photo_mb > self.max_request_mb:
            raise ValueError(
                f"max_photo_mb must be at most max_request_mb, got {self.max_photo_mb:g} and {self.max_request_mb:g}; "
                "change one"
            )
        if self.batch_timeout >= self.timeout:
            raise ValueError(
                f"batch_timeout must be less than timeout, got {self.batch_timeout:g} and {self.timeout:g}; change one"
            )
        return self
