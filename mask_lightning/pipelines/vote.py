"""Vote over the members of an ensemble, score members, votes and soups, and predict other photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.ensemble.cross_fit import FOLDS, person_folds
from mask_lightning.ensemble.members import (
    LoadedMembers,
    Member,
    MemberSearch,
    chosen_weights,
    find_members,
    load_members,
    refuse_other_splits,
    score_weights,
)
from mask_lightning.ensemble.scoring import EnsembleScores, SoupPredictions, score_ensemble
from mask_lightning.ensemble.soups import make_soups, write_checkpoint
from mask_lightning.ensemble.voting import Vote, Weights, vote_predictions
from mask_lightning.errors import CheckpointError, MaskLightningError, RunFolderError, SubmissionError
from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.dataset import PhotoPlace
from mask_lightning.inference.exported import Model, with_engine
from mask_lightning.inference.photo_list import PhotoList, list_photos
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.calibration import fit_corrections
from mask_lightning.metrics.decisions import decide
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import METRICS, explain_mean, why_mean
from mask_lightning.pipelines.labelled import cache_of_run, photos_of_run
from mask_lightning.pipelines.output import engine_cache, refuse_existing, writable
from mask_lightning.pipelines.photos import Photos
from mask_lightning.pipelines.predict import write_output
from mask_lightning.reports import vote_report
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.predictions import print_decisions
from mask_lightning.reports.vote_report import plot_agreement, plot_candidates
from mask_lightning.settings.inference import VoteSettings
from mask_lightning.utils.files import write_atomically, write_json

RECORD = "vote.json"
HELD_OUT = "held_out.parquet"  # predictions for held-out people, if predictions.parquet is about other photos


def vote(settings: VoteSettings, folder: Path) -> None:
    """Let the members vote on held-out people and on the photos of `data.root`, and write the results into `folder`.

    Raises:
        MaskLightningError: the user can correct the cause; raised before a photo is opened if possible.
    """
    refuse_existing(folder, [RECORD])
    data = settings.data
    photos_to_predict = list_photos(data, settings.outputs) if data.root else None
    found = find_members(settings.runs, allow_missing=settings.allow_missing)
    loaded = load_members(found.members, choose_device(settings.accelerator))
    weights = _choose_weights(loaded, settings)
    submit = photos_to_predict is not None and _must_submit(loaded.space, photos_to_predict, settings)
    photos, remarks = _held_out(found.members, settings)
    vote_report.print_members(
        [member.name for member in found.members], loaded.megabytes, found.left_out, found.missing
    )
    with writable(folder):
        voted = _vote_on_photos(loaded, photos_to_predict, weights, settings) if photos_to_predict else None
        scores = None
        if photos is not None:
            scores, remarks = _score(loaded, photos, weights, settings, folder)
        if voted and scores and settings.decision == "macro_f1":
            corrections = fit_corrections(scores.votes["soft"].predictions)
            voted = replace(voted, predictions=decide(voted.predictions, corrections))
        _write(folder, settings, found, _table(loaded, weights, scores), scores, voted, remarks, submit=submit)
    if scores:
        vote_report.print_scores(scores, kind=settings.kind)
    if voted and settings.decision == "macro_f1":
        print_decisions(voted.predictions)
    vote_report.print_remarks(remarks)
    vote_report.print_files(folder, _next_command(folder, photos_to_predict, settings, submit=submit))


def _held_out(members: Sequence[Member], settings: VoteSettings) -> tuple[Photos | None, list[str]]:
    """Return the photos of the members, to score on people whom all of them held out.

    Returns:
        The photos, or None and a remark that says why there are no scores.

    Raises:
        CheckpointError: scores are needed, also as weights, and the members held out different people.
        RunFolderError: they are needed, for scores or for `decision=macro_f1`, and nobody was held out.
        MaskLightningError: they are needed and cannot be read.
    """
    is_needed, calibrates = settings.data.root is None, settings.decision == "macro_f1"
    by_score = settings.kind == "weighted" and settings.weights is None
    try:
        refuse_other_splits(members)
    except CheckpointError as error:
        if is_needed or calibrates or by_score:
            hint = "or vote on other photos, with kind=hard or soft: data.root=PHOTOS"
            raise CheckpointError(f"{error}, {hint}") from error
        return None, [f"no scores: {error}"]
    try:
        photos = photos_of_run(members[0].folder, remedy="restore them, or train the members again")
    except MaskLightningError as error:
        if is_needed or calibrates:
            raise
        return None, [f"no scores, as the photos of the members cannot be read: {error}"]
    if len(photos.split.val):
        return photos, []
    if is_needed:
        raise RunFolderError(
            "the members held nobody out to score on (data.val_fraction=0); name photos to predict: data.root=PHOTOS"
        )
    if calibrates:
        raise RunFolderError(
            "decision=macro_f1 calibrates the vote on held-out people, found none (data.val_fraction=0); set "
            "decision=argmax, or predict with one run that has them: python -m mask_lightning.evaluate calibrate=true"
        )
    return None, ["no scores: the members held nobody out (data.val_fraction=0)"]


def _choose_weights(loaded: LoadedMembers, settings: VoteSettings) -> Weights | None:
    """Return the weights of a weighted vote, which is scored beside the others; None if members have no scores."""
    weights = score_weights(loaded) if settings.weights is None else chosen_weights(settings.weights, loaded)
    if weights is None and settings.kind == "weighted":
        raise CheckpointError(
            "kind=weighted weighs members by their scores on held-out people, but these have none; set weights"
        )
    return weights


def _must_submit(space: LabelSpace, photos_to_predict: PhotoList, settings: VoteSettings) -> bool:
    """Return True if a submission will be written. Raise SubmissionError if it must be and the tasks are incomplete."""
    possible = submission.can_submit(space)
    if not possible and (
        settings.submission is True or (settings.submission == "auto" and photos_to_predict.kind == "info")
    ):
        raise SubmissionError(
            f"a submission takes members for mask, gender and age, found {', '.join(space.names)} only; name all their "
            "sweeps and runs: runs=[A,B,C], or go without: submission=false"
        )
    return possible and settings.submission is not False


def _vote_on_photos(loaded: LoadedMembers, photos: PhotoList, weights: Weights | None, settings: VoteSettings) -> Vote:
    """Predict other photos by the kind of vote that the options name."""
    rows = photos.table
    parts = _predict(_with_engine(loaded.networks, len(rows), settings), rows, settings, photos.packed)
    if settings.kind == "weighted":
        return vote_predictions(parts, kind="hard", weights=weights)
    return vote_predictions(parts, kind=settings.kind)


def _with_engine(networks: Sequence[Trained], photos: int, settings: VoteSettings) -> list[Model]:
    cache = engine_cache(settings.outputs)
    return [with_engine(network, settings.engine, cache=cache, photos=photos) for network in networks]


def _predict(
    networks: Sequence[Model], rows: pd.DataFrame, settings: VoteSettings, cache: PhotoPlace | None = None
) -> list[Predictions]:
    return predict_many(
        networks,
        rows,
        tta=settings.tta,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
        cache=cache,
    )


def _score(
    loaded: LoadedMembers,
    photos: Photos,
    weights: Weights | None,
    settings: VoteSettings,
    folder: Path,
) -> tuple[EnsembleScores, list[str]]:
    """Score members, votes and soups on the people that all members held out; also return remarks on the scores."""
    train, val = photos.split.train, photos.split.val
    cache = cache_of_run(loaded.members[0].folder, photos.root)
    parts = _predict(_with_engine(loaded.networks, len(val), settings), val, settings, cache)
    soups: dict[str, SoupPredictions] = {}
    remarks: list[str] = []
    if settings.soup:
        made, remarks = make_soups(
            loaded,
            parts,
            train,
            predict=lambda network: _predict([network], val, settings, cache)[0],
        )
        for name, soup in made.items():
            write_checkpoint(folder / f"{name}.ckpt", soup)
        written = [load_trained(folder / f"{name}.ckpt", loaded.networks[0].module.device) for name in made]
        served = zip(made.items(), _predict(written, val, settings, cache) if written else [], strict=True)
        soups = {name: SoupPredictions(soup.names, soup.cross_fitted or part) for (name, soup), part in served}
    by_score = weights is not None and settings.weights is None
    decided = settings.decision == "macro_f1"
    scores = score_ensemble(loaded, parts, weights=weights, by_score=by_score, decided=decided, soups=soups)
    reason = why_mean(scores.votes["hard"].predictions)
    remarks += [explain_mean(reason)] if reason else []
    return scores, [*remarks, *_explain_scores(parts[0], by_score=by_score, greedy=bool(soups), decided=decided)]


def _explain_scores(part: Predictions, *, by_score: bool, greedy: bool, decided: bool) -> list[str]:
    """Say on whom weights, greedy soups and decisions were chosen, and on whom they are scored."""
    chosen = [
        *(["the weighted vote"] if by_score else []),
        *(["greedy soups"] if greedy else []),
        *(["decision=macro_f1"] if decided else []),
    ]
    if not chosen:
        return []
    if person_folds(part) is None:
        return [f"{' and '.join(chosen)}: chosen and scored on one person, so the scores are optimistic"]
    return [
        f"scores of {' and '.join(chosen)} are cross-fitted over {FOLDS} folds of the people: each fold is predicted "
        "with weights, members and calibration chosen on the others; for other photos they are chosen on all held-out "
        "people"
    ]


def _write(
    folder: Path,
    settings: VoteSettings,
    found: MemberSearch,
    members: pd.DataFrame,
    scores: EnsembleScores | None,
    voted: Vote | None,
    remarks: Sequence[str],
    *,
    submit: bool,
) -> None:
    """Write tables and figures, then predictions, then the record: if it exists, the rest is complete."""
    write_atomically(folder / "members.csv", members.to_csv(index=False, lineterminator="\n").encode())
    if scores:
        save_figure(plot_agreement(scores.agreements), folder / "agreement.png")
        save_figure(plot_candidates(scores.comparison.scores), folder / "members.png")
        name = HELD_OUT if voted else prediction_file.FILE_NAME
        chosen = "macro_f1" if settings.decision == "macro_f1" and "macro_f1" in scores.votes else settings.kind
        prediction_file.write_predictions(folder / name, scores.votes[chosen].predictions)
    if voted:
        write_output(folder, voted.predictions, submit=submit)
    record = {
        "kind": settings.kind,
        "decision": settings.decision,
        "members": {member.name: str(member.folder.path) for member in found.members},
        "missing": found.missing,
        "left_out": found.left_out,
        "held_out": _describe_scores(scores) if scores else None,
        "answers": _describe_vote(settings, voted) if voted else None,
        "remarks": list(remarks),
    }
    write_json(folder / RECORD, record)


def _describe_scores(scores: EnsembleScores) -> dict[str, Any]:
    return {
        "people": scores.people,
        "photos": scores.photos,
        "ties": {kind: each.ties for kind, each in scores.votes.items()},
        "scores": [each.to_plain() for each in scores.comparison.scores],
        "gains": [each.to_plain() for each in scores.comparison.gains],
        "agreement": {
            task: {"members": list(agreement.names), "shares": agreement.shares.round(4).tolist()}
            for task, agreement in scores.agreements.items()
        },
        "soups": {f"{name}.ckpt": list(names) for name, names in scores.soups.items()},
    }


def _describe_vote(settings: VoteSettings, voted: Vote) -> dict[str, Any]:
    return {"root": str(settings.data.root), "photos": len(voted.predictions), "ties": voted.ties}


def _table(loaded: LoadedMembers, weights: Weights | None, scores: EnsembleScores | None) -> pd.DataFrame:
    """Return a row per member and task: its weight, cost and folder, and its scores on the held-out people."""
    candidates = scores.comparison.scores if scores else []
    of_member = {(each.name, each.task): each for each in candidates if each.group == "member"}
    rows = []
    for task in loaded.space.names:
        for i, position in enumerate(loaded.positions(task)):
            member = loaded.members[position]
            row: dict[str, Any] = {"member": member.name, "task": task}
            for metric in METRICS if scores else ():
                score = of_member[member.name, task].intervals[metric]
                row |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
            row |= {
                "weight": weights[task][i] if weights else None,
                "epoch": member.result.best_epoch,
                "seconds": member.result.seconds,
                "folder": str(member.folder.path),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _next_command(folder: Path, photos_to_predict: PhotoList | None, settings: VoteSettings, *, submit: bool) -> str:
    if submit and photos_to_predict is not None and photos_to_predict.kind == "info":
        return f"python -m mask_lightning.check_submission file={folder} data.root={photos_to_predict.root}"
    if photos_to_predict is not None:
        return f"python -m mask_lightning.blend files=[{folder},OTHER] kind=mean"
    places = ",".join(map(str, settings.runs))
    runs = f"[{places}]" if len(settings.runs) > 1 else places
    typed = settings.model_dump(include={"kind", "decision", "tta", "weights"}, exclude_defaults=True)
    given = [f"{name}={value}".replace(" ", "") for name, value in typed.items()]
    return " ".join([f"python -m mask_lightning.vote runs={runs}", *given, "data.root=PHOTOS"])
