"""Votes: from the run folders of an ensemble's members to common answers, scores and soups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.ensemble.members import Jury, Muster, chosen_weights, load_jury, muster, score_weights
from mask_lightning.ensemble.scoring import ServedSoup, Trial, hold_trial, mean_f1
from mask_lightning.ensemble.soups import cook, write_checkpoint
from mask_lightning.ensemble.voting import Ballot, Weights, cast_votes
from mask_lightning.errors import CheckpointError, RunFolderError, SubmissionError
from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.forward import predict_many
from mask_lightning.inference.photo_list import PhotoList, read_photo_list
from mask_lightning.inference.predictions import Predictions
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.pipelines.labelled import photos_of_run
from mask_lightning.pipelines.predict import writable, write_answers
from mask_lightning.reports import vote_report
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.votes import plot_agreement, plot_standings
from mask_lightning.settings.inference import VoteSettings
from mask_lightning.utils.files import write_atomically, write_json

RECORD = "vote.json"
HELD_OUT = "held_out.parquet"  # beside predictions.parquet, where that holds the answers for other photos


def hold_vote(settings: VoteSettings, folder: Path) -> None:
    """Let the members vote on the held-out people and on `data.root`, and leave everything about it in `folder`.

    Raises:
        MaskLightningError: whatever can be mended; most of it before a photo is opened.
    """
    if (folder / RECORD).exists():
        raise RunFolderError(f"{folder} already holds a vote; name another folder, or none to get a new one")
    asked = read_photo_list(settings.data.root) if settings.data.root else None
    found = muster(settings.runs, allow_missing=settings.allow_missing)
    jury = load_jury(found.members, choose_device(settings.accelerator))
    weights = _weigh(jury, settings)
    submit = asked is not None and _must_submit(jury.space, asked, settings)
    photos = photos_of_run(found.members[0].folder)
    if photos.split.val.empty and asked is None:
        raise RunFolderError(
            "the members held nobody out to be scored on (data.val_fraction=0); name photos to answer: data.root=PHOTOS"
        )
    vote_report.print_jury([member.name for member in found.members], jury.megabytes, found.left_out, found.missing)
    with writable(folder):
        answers = _answer(jury, asked.table, weights, settings) if asked else None
        trial, remarks = None, ["no scores: the members held nobody out (data.val_fraction=0)"]
        if len(photos.split.val):
            trial, remarks = _try(jury, photos.split.train, photos.split.val, weights, settings, folder)
        _write(folder, settings, found, _table(jury, weights, trial), trial, answers, remarks, submit=submit)
    if trial:
        vote_report.print_trial(trial, kind=settings.kind)
    vote_report.print_remarks(remarks)
    vote_report.print_files(folder, _next_command(folder, asked, settings, submit=submit))


def _weigh(jury: Jury, settings: VoteSettings) -> Weights | None:
    """The weights of a weighted vote, which is scored beside the others wherever it can be."""
    weights = score_weights(jury) if settings.weights is None else chosen_weights(settings.weights, jury)
    if weights is None and settings.kind == "weighted":
        raise CheckpointError(
            "kind=weighted weighs members by their scores on held-out people, which these have not; set weights"
        )
    return weights


def _must_submit(space: LabelSpace, asked: PhotoList, settings: VoteSettings) -> bool:
    """Whether a submission will be written; refuses members that cannot make it."""
    possible = submission.can_submit(space)
    if not possible and (settings.submission is True or (settings.submission == "auto" and asked.kind == "info")):
        raise SubmissionError(
            f"a submission takes members for mask, gender and age, found {', '.join(space.names)} only; name all their "
            "sweeps and runs: runs=[A,B,C], or go without: submission=false"
        )
    return possible and settings.submission is not False


def _answer(jury: Jury, rows: pd.DataFrame, weights: Weights | None, settings: VoteSettings) -> Ballot:
    """The vote of the kind that is asked for."""
    parts = _predict(jury.networks, rows, settings)
    if settings.kind == "weighted":
        return cast_votes(parts, kind="hard", weights=weights)
    return cast_votes(parts, kind=settings.kind)


def _predict(networks: Sequence[Trained], rows: pd.DataFrame, settings: VoteSettings) -> list[Predictions]:
    return predict_many(
        networks,
        rows,
        tta=settings.tta,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
    )


def _try(
    jury: Jury,
    train: pd.DataFrame,
    val: pd.DataFrame,
    weights: Weights | None,
    settings: VoteSettings,
    folder: Path,
) -> tuple[Trial, list[str]]:
    """Score members, votes and soups on the people that all members held out; and why there are no soups."""
    parts = _predict(jury.networks, val, settings)
    soups: dict[str, ServedSoup] = {}
    remarks: list[str] = []
    if settings.soup:
        cooked, remarks = cook(
            jury,
            [mean_f1(part) for part in parts],
            train,
            judge=lambda network: mean_f1(_predict([network], val, settings)[0]),
        )
        for name, soup in cooked.items():
            write_checkpoint(folder / f"{name}.ckpt", soup)
        written = [load_trained(folder / f"{name}.ckpt", jury.networks[0].module.device) for name in cooked]
        served = zip(cooked.items(), _predict(written, val, settings), strict=True)
        soups = {name: ServedSoup(soup.names, part) for (name, soup), part in served}
    return hold_trial(jury, parts, weights=weights, soups=soups), remarks


def _write(
    folder: Path,
    settings: VoteSettings,
    found: Muster,
    members: pd.DataFrame,
    trial: Trial | None,
    answers: Ballot | None,
    remarks: Sequence[str],
    *,
    submit: bool,
) -> None:
    """Tables and figures, then the answers; the record last: where it lies, the rest lies too."""
    write_atomically(folder / "members.csv", members.to_csv(index=False, lineterminator="\n").encode())
    if trial:
        save_figure(plot_agreement(trial.agreements), folder / "agreement.png")
        save_figure(plot_standings(trial.verdict.standings), folder / "members.png")
        name = HELD_OUT if answers else prediction_file.FILE_NAME
        prediction_file.write_predictions(folder / name, trial.ballots[settings.kind].predictions)
    if answers:
        write_answers(folder, answers.predictions, submit=submit)
    record = {
        "kind": settings.kind,
        "members": {member.name: str(member.folder.path) for member in found.members},
        "missing": found.missing,
        "left_out": found.left_out,
        "held_out": _plain_trial(trial) if trial else None,
        "answers": _plain_answers(settings, answers) if answers else None,
        "remarks": list(remarks),
    }
    write_json(folder / RECORD, record)


def _plain_trial(trial: Trial) -> dict[str, Any]:
    return {
        "people": trial.people,
        "photos": trial.photos,
        "ties": {kind: ballot.ties for kind, ballot in trial.ballots.items()},
        "scores": [asdict(standing) for standing in trial.verdict.standings],
        "gains": [asdict(gain) for gain in trial.verdict.gains],
        "agreement": {
            task: {"members": list(agreement.names), "shares": agreement.shares.round(4).tolist()}
            for task, agreement in trial.agreements.items()
        },
        "soups": {f"{name}.ckpt": list(names) for name, names in trial.soups.items()},
    }


def _plain_answers(settings: VoteSettings, answers: Ballot) -> dict[str, Any]:
    return {"root": str(settings.data.root), "photos": len(answers.predictions), "ties": answers.ties}


def _table(jury: Jury, weights: Weights | None, trial: Trial | None) -> pd.DataFrame:
    """A row per member and task: its weight, cost and folder, and its scores on the held-out people."""
    scores: Mapping[tuple[str, str], Any] = {}
    if trial:
        scores = {(each.name, each.task): each for each in trial.verdict.standings if each.group == "member"}
    rows = []
    for task in jury.space.names:
        for turn, place in enumerate(jury.places(task)):
            member = jury.members[place]
            row: dict[str, Any] = {"member": member.name, "task": task}
            for metric in ("f1", "accuracy") if trial else ():
                score = getattr(scores[member.name, task], metric)
                row |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
            row |= {
                "weight": weights[task][turn] if weights else None,
                "epoch": member.result.best_epoch,
                "seconds": member.result.seconds,
                "folder": str(member.folder.path),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _next_command(folder: Path, asked: PhotoList | None, settings: VoteSettings, *, submit: bool) -> str:
    if submit and asked is not None and asked.kind == "info":
        return f"python -m mask_lightning.check_submission file={folder} data.root={asked.root}"
    if asked is not None:
        return f"python -m mask_lightning.blend files=[{folder},OTHER] kind=mean"
    places = ",".join(map(str, settings.runs))
    runs = f"[{places}]" if len(settings.runs) > 1 else places
    return f"python -m mask_lightning.vote runs={runs} data.root=PHOTOS"
