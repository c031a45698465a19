"""Export trained networks as a standalone model: write, quantise, compare with PyTorch, score, and describe."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mask_lightning.data.index import read_index
from mask_lightning.data.prepared import read_prepared
from mask_lightning.data.splits import draw_stratified
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.ensemble.members import find_members, load_members, refuse_other_splits
from mask_lightning.ensemble.soups import CLEAN_PHOTOS, SoupMember, uniform_soup, why_no_soup
from mask_lightning.ensemble.voting import vote_predictions
from mask_lightning.errors import CheckpointError, ExportError, MaskLightningError, RunFolderError
from mask_lightning.exporting.example import example_script
from mask_lightning.exporting.folder import MANIFEST, Exported, write_folder
from mask_lightning.exporting.formats import check_packages, convert_to_openvino, write_model
from mask_lightning.exporting.quantise import quantise
from mask_lightning.exporting.runtimes import MODEL_FILES, Images
from mask_lightning.inference.exported import TOLERANCE, ExportedModel, checkpoint_options, load_exported, member_of
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.temperatures import fitting_temperatures, read_calibration, write_calibration
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.evaluation import Evaluation, evaluate
from mask_lightning.metrics.predictions import Predictions, join_spaces
from mask_lightning.pipelines.labelled import held_out_rows, photos_of_run, run_folder_of
from mask_lightning.pipelines.output import writable
from mask_lightning.pipelines.photos import draw_portraits
from mask_lightning.reports.export_report import ModelCard, print_export, quantisation_of
from mask_lightning.settings.export import ExportFormat, ExportSettings
from mask_lightning.utils.files import sha256_of

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
CALIBRATION_PHOTOS = 256  # training photos that determine the ranges of int8 activations
CALIBRATION_BATCH = 16
PORTRAITS = 12  # people of the generated portraits for the comparison, if there are no held-out photos


@dataclass(frozen=True)
class Networks:
    """Networks to export.

    Attributes:
        networks: one, or those of an ensemble, on the CPU.
        sources: folders or checkpoints that were named or found; for a soup, of all its members.
        combine: single, soft or soup.
    """

    networks: list[Trained]
    sources: list[Trained]
    combine: str

    @classmethod
    def of(cls, trained: Trained) -> Networks:
        """Return a single network to export."""
        return cls([trained], [trained], "single")

    @property
    def space(self) -> LabelSpace:
        """All tasks."""
        return join_spaces([network.space for network in self.networks])

    @property
    def spec(self) -> TransformSpec:
        """Preprocessing of the photos; mean and std of the first network."""
        return self.networks[0].spec


@dataclass(frozen=True)
class Comparison:
    """Photos on which an export is compared with PyTorch.

    Attributes:
        rows: one row per photo; with labels if they are of held-out people.
        held_out: True for photos of held-out people.
        note: why there are none; "" if there are.
    """

    rows: pd.DataFrame
    held_out: bool
    note: str = ""

    @property
    def of(self) -> str:
        """Kind of the photos."""
        return "photos of held-out people" if self.held_out else "generated portraits"


def export_model(settings: ExportSettings, folder: Path, *, hub_name: str | None = None) -> Exported:
    """Export a checkpoint or an ensemble into a new folder, which appears when it is complete and has been compared.

    Args:
        settings: all options.
        folder: the new folder.
        hub_name: name of the model on the Hugging Face hub; its README.md then has the hub's metadata.

    Raises:
        RunFolderError: the folder exists.
        ExportError: the network cannot be exported, a package is missing, or the probabilities differ from PyTorch's.
        MaskLightningError: the checkpoints or the training photos cannot be read.
    """
    if any(path.suffix != ".log" for path in (folder.iterdir() if folder.is_dir() else ())):
        raise RunFolderError(f"{folder} already exists and is not empty; set out to a new folder, or leave it out")
    check_packages(settings.format, quantised=settings.precision == "int8")
    networks = load_networks(settings)
    comparison = find_comparison(networks, settings)
    with new_folder(folder) as work:
        exported = write_files(work, networks, settings)
        reference, found = _predict_both(load_exported(work), networks, comparison, settings)
        difference = largest_difference(reference, found)
        if settings.precision == "float32" and not difference <= TOLERANCE:
            raise ExportError(
                f"expected probabilities within {TOLERANCE} of PyTorch's, found a difference of {difference:.2g} on "
                f"{len(found)} {comparison.of}; nothing was written, use another format"
            )
        check = {"photos": len(found), "of": comparison.of, "largest_difference": difference}
        exported = replace(exported, check=check)
        card = _describe(exported, networks, comparison, reference, found, settings)
        text = card.render() if hub_name is None else card.render_for_hub(hub_name)
        (work / "README.md").write_text(text, encoding="utf-8")
        script = work / "example.py"
        script.write_text(example_script(exported.format, exported.spec), encoding="utf-8")
        write_folder(work, exported)
    print_export(folder, card)
    return exported


def load_networks(settings: ExportSettings) -> Networks:
    """Load what the options name, and average weights for a soup.

    Raises:
        CheckpointError: networks of one graph need the same input, and members of a soup the same start.
        MaskLightningError: as `load_trained`, `find_members`, `refuse_other_splits` and `load_members`.
    """
    if settings.ckpt is not None:
        return Networks.of(load_trained(settings.ckpt, CPU))
    runs = find_members(settings.runs or []).members
    refuse_other_splits(runs)
    loaded = load_members(runs, CPU)
    if settings.combine == "soft":
        _refuse_other_inputs(loaded.networks)
        return Networks(loaded.networks, loaded.networks, "soft")
    train = photos_of_run(loaded.members[0].folder).split.train
    soups = []
    for tasks, positions in loaded.by_tasks().items():
        reason = why_no_soup([loaded.members[i] for i in positions])
        if reason:
            raise CheckpointError(f"no soup for {', '.join(tasks)}: {reason}; set combine=soft")
        clean = draw_stratified(train, CLEAN_PHOTOS, strata=tasks, seed=0)
        members = [SoupMember(loaded.members[i].name, loaded.networks[i], 0.0) for i in positions]
        soups.append(uniform_soup(members, clean).network)
    _refuse_other_inputs(soups)
    return Networks(soups, loaded.networks, "soup")


def _refuse_other_inputs(networks: Sequence[Trained]) -> None:
    first = networks[0]
    for other in networks[1:]:
        spec = replace(other.spec, mean=first.spec.mean, std=first.spec.std)  # normalised inside the graph
        if spec != first.spec:
            raise CheckpointError(
                f"one graph has one input, found {first.spec} in {first.source.checkpoint} and {other.spec} in "
                f"{other.source.checkpoint}; export them one by one"
            )


def find_comparison(networks: Networks, settings: ExportSettings) -> Comparison:
    """Return held-out photos of the (first) run; generated portraits if there are none."""
    checkpoint = Path(networks.sources[0].source.checkpoint)
    try:
        rows = find_held_out(checkpoint, networks.networks, settings.score_photos)
    except MaskLightningError as error:
        root = draw_portraits(PORTRAITS, settings.outputs)
        rows = read_index(root)[["path"]]
        note = f"Compared on generated portraits and not scored: {error}"
        return Comparison(rows, held_out=False, note=note)
    return Comparison(rows, held_out=True)


def find_held_out(checkpoint: Path, networks: Sequence[Trained], most: int | None) -> pd.DataFrame:
    """Return photos of the people whom a run held out, at most `most`, stratified; None: all.

    Raises:
        MaskLightningError: as `held_out_rows`.
    """
    rows = held_out_rows(checkpoint, networks)
    if most is not None and most < len(rows):
        strata = [task for task in join_spaces([network.space for network in networks]).names if task in rows]
        rows = draw_stratified(rows, most, strata=strata, seed=0)
    return rows.reset_index(drop=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` at the end of the block; after an error nothing is left.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    work: Path | None = None
    try:
        with writable(folder.parent):
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            yield work
            folder.mkdir(exist_ok=True)
            for path in sorted(work.iterdir(), key=lambda path: path.name == MANIFEST):  # last: then all are there
                path.chmod(0o644)
                path.replace(folder / path.name)
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def write_files(folder: Path, networks: Networks, settings: ExportSettings) -> Exported:
    """Write model, calibration, labels, preprocessing and manifest.

    Raises:
        ExportError: the network cannot be exported.
        MaskLightningError: int8 needs the training photos, which cannot be read.
    """
    temperatures: dict[str, float] = {}
    if settings.calibrated == "auto" and networks.combine == "single":
        temperatures = fitting_temperatures(networks.networks[0].source, settings.tta)
    members = [member_of(network, temperatures) for network in networks.networks]
    options: Mapping[str, Any] = {"size": networks.spec.size, "flip": settings.tta == "flip"}
    if settings.precision == "int8":
        batches = calibration_batches(networks)
        with tempfile.TemporaryDirectory() as temporary:
            source = write_model(Path(temporary), members, "onnx", **options)
            quantised = Path(temporary) / "int8.onnx"
            quantise(source, quantised, batches)
            _place(quantised, folder, settings.format)
    else:
        if networks.combine == "single":
            options = {**options, "options": checkpoint_options(networks.networks[0])}
        write_model(folder, members, settings.format, **options)
    exported = Exported(
        format=settings.format,
        precision=settings.precision,
        combine=networks.combine,
        tta=settings.tta,
        temperatures=temperatures,
        sources=tuple(each.source for each in networks.sources),
        space=networks.space,
        spec=networks.spec,
        sizes=networks.networks[0].sizes,
    )
    if temperatures:
        _copy_calibration(networks.networks[0], folder / exported.model_file)
    write_folder(folder, exported)
    return exported


def _place(quantised: Path, folder: Path, format_name: ExportFormat) -> None:
    target = folder / MODEL_FILES[format_name]
    if format_name == "openvino":
        convert_to_openvino(quantised, target)
    else:
        shutil.copyfile(quantised, target)


def _copy_calibration(trained: Trained, model_file: Path) -> None:
    """Write the calibration of a checkpoint for its exported model, so that `predict` finds it as for a checkpoint."""
    calibration = read_calibration(trained.source.checkpoint)
    assert calibration is not None
    write_calibration(model_file, replace(calibration, sha256=sha256_of(model_file)))


def calibration_batches(networks: Networks) -> list[Images]:
    """Prepare training photos of the (first) run, which determine the ranges of int8 activations.

    Raises:
        MaskLightningError: the photos cannot be read.
    """
    folder = run_folder_of(Path(networks.sources[0].source.checkpoint))
    if folder is None:
        raise RunFolderError("precision=int8 needs the training photos, found a checkpoint outside of its run; name it")
    train = photos_of_run(folder).split.train
    strata = [task for task in networks.space.names if task in train]
    rows = draw_stratified(train, CALIBRATION_PHOTOS, strata=strata, seed=0)
    images = [np.asarray(read_prepared(path, [networks.spec]).images[0]) for path in rows["path"]]
    return [np.stack(images[i : i + CALIBRATION_BATCH]) for i in range(0, len(images), CALIBRATION_BATCH)]


def _predict_both(
    model: ExportedModel, networks: Networks, comparison: Comparison, settings: ExportSettings
) -> tuple[Predictions, Predictions]:
    """Predict the photos with PyTorch and with the exported file, whose probabilities are taken as they are."""
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "num_workers": settings.num_workers,
        "progress": settings.progress,
    }
    calibrated = bool(model.temperatures)
    parts = predict_many(networks.networks, comparison.rows, tta=settings.tta, calibrated=calibrated, **options)
    reference = parts[0] if len(parts) == 1 else vote_predictions(parts, kind="soft").predictions
    plain = replace(model, temperatures={})
    return reference, predict_many([plain], comparison.rows, **options)[0]


def largest_difference(first: Predictions, second: Predictions) -> float:
    """Return the largest difference of a probability; NaN if one is NaN."""
    return max(float(np.abs(first.probs[task] - second.probs[task]).max()) for task in first.space.names)


def _describe(
    exported: Exported,
    networks: Networks,
    comparison: Comparison,
    reference: Predictions,
    found: Predictions,
    settings: ExportSettings,
) -> ModelCard:
    """Score the exported file on held-out people, and before quantisation, too."""
    evaluation: Evaluation | None = None
    quantisation = None
    if comparison.held_out:
        evaluation = evaluate(found)
        if settings.precision == "int8":
            quantisation = quantisation_of(evaluate(reference), evaluation)
    folders = [run_folder_of(Path(each.source.checkpoint)) for each in networks.sources]
    results = {folder.path.name: folder.read_result() for folder in folders if folder is not None}
    notes = [comparison.note] if comparison.note else []
    return ModelCard(exported, settings.licence, results, evaluation, quantisation, notes)
