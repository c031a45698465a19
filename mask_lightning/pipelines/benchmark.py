"""Measure a trained run per engine and precision: speed, memory, and scores on held-out people."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mask_lightning.errors import MaskLightningError, one_line
from mask_lightning.exporting.formats import check_packages, write_model
from mask_lightning.exporting.quantise import quantise
from mask_lightning.exporting.runtimes import installed, open_model, require
from mask_lightning.exporting.timing import time_in_process
from mask_lightning.inference.exported import ExportedModel, Model, member_of
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.pipelines.export import CPU, Networks, calibration_batches, find_held_out
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import benchmark_report
from mask_lightning.reports.benchmark_report import Contestant, Speeds
from mask_lightning.reports.figures import save_figure
from mask_lightning.settings.export import BenchmarkSettings
from mask_lightning.utils.files import write_json
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

RECORD, FIGURE = "benchmark.json", "speed.png"
PACKAGES = {"torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


def run_benchmark(settings: BenchmarkSettings, folder: Path) -> None:
    """Measure every engine with every precision; write benchmark.json and a plot of score against speed.

    Raises:
        ExportError: an engine that was named is not installed, or the network cannot be exported.
        MaskLightningError: the checkpoint cannot be read.
    """
    refuse_existing(folder, [RECORD])
    contestants, notes = choose_contestants(settings)
    networks = Networks.of(load_trained(settings.ckpt, CPU))
    trained = networks.networks[0]
    with tempfile.TemporaryDirectory() as temporary:
        files, more = _write_files(Path(temporary), networks, contestants)
        contestants = [each for each in contestants if _file_key(each) in files]
        timings = {
            each: time_in_process(
                files[_file_key(each)],
                engine=each.engine,
                size=trained.spec.size,
                batch_sizes=settings.batch_sizes,
                seconds=settings.seconds,
                threads=settings.threads,
            )
            for each in contestants
        }
        scores, others = _score(trained, contestants, files, settings)
        sizes = {each: files[_file_key(each)].stat().st_size / 1e6 for each in contestants}
    notes += [*more, *others]
    speeds = [Speeds(each, tuple(timings[each]), sizes[each], scores.get(each)) for each in contestants]
    with writable(folder):
        record = {
            "checkpoint": asdict(trained.source),
            "threads": settings.threads or share_of_cores(),
            "results": [asdict(each) for each in speeds],
            "notes": notes,
        }
        write_json(folder / RECORD, record)
        save_figure(benchmark_report.plot_speeds(speeds), folder / FIGURE)
    benchmark_report.print_speeds(speeds, trained.source.checkpoint, notes)
    benchmark_report.print_files(folder, [RECORD, FIGURE])


def choose_contestants(settings: BenchmarkSettings) -> tuple[list[Contestant], list[str]]:
    """Return the engines and precisions to measure, and notes on those that are left out.

    Raises:
        ExportError: an engine that was named is not installed.
    """
    notes: list[str] = []
    chosen: list[Contestant] = []
    for engine, packages in PACKAGES.items():
        if settings.engines is not None and engine not in settings.engines:
            continue
        if settings.engines is None and not installed(*packages):
            missing = [package for package in packages if not installed(package)]
            notes.append(f"engine={engine} was not measured: {', '.join(missing)} not installed")
            continue
        for package in packages:
            require(package)
        chosen += [
            Contestant(engine, precision)
            for precision in dict.fromkeys(settings.precisions)
            if engine != "torch" or precision == "float32"
        ]
    return chosen, notes


def _file_key(contestant: Contestant) -> str:
    return "torch" if contestant.engine == "torch" else contestant.precision


def _write_files(
    folder: Path, networks: Networks, contestants: Sequence[Contestant]
) -> tuple[dict[str, Path], list[str]]:
    """Write the model files that are needed: key of `_file_key` -> path; and notes on those that cannot be written."""
    keys = {_file_key(each) for each in contestants}
    members, size = [member_of(networks.networks[0])], networks.spec.size
    files: dict[str, Path] = {}
    if "torch" in keys:
        files["torch"] = write_model(folder, members, "safetensors", size=size, flip=False)
    if keys - {"torch"}:
        exported = write_model(folder, members, "onnx", size=size, flip=False)
        files |= {"float32": exported} if "float32" in keys else {}
    if "int8" not in keys:
        return files, []
    try:
        check_packages("onnx", quantised=True)
        quantise(exported, folder / "int8.onnx", calibration_batches(networks))
    except MaskLightningError as error:
        return files, [f"int8 was not measured: {error}"]
    return {**files, "int8": folder / "int8.onnx"}, []


def _score(
    trained: Trained, contestants: Sequence[Contestant], files: dict[str, Path], settings: BenchmarkSettings
) -> tuple[dict[Contestant, Interval], list[str]]:
    """Score each contestant's probabilities on held-out people, in one pass; {} and a note if there are none."""
    if settings.score_photos == 0:
        return {}, []
    try:
        rows = find_held_out(Path(trained.source.checkpoint), [trained], settings.score_photos)
    except MaskLightningError as error:
        return {}, [f"not scored: {one_line(str(error))}"]
    models: list[Model] = [
        trained
        if each.engine == "torch"
        else ExportedModel(
            open_model(files[_file_key(each)], engine=each.engine, threads=settings.threads),
            trained.space,
            trained.spec,
            trained.source,
            trained.sizes,
        )
        for each in contestants
    ]
    parts = predict_many(
        models,
        rows,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
    )
    evaluations = [evaluate(part) for part in parts]
    scores = [each.intervals[each.headline][MAIN_METRIC] for each in evaluations]
    return dict(zip(contestants, scores, strict=True)), []
