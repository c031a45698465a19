"""Damage runs and files as people, disks and clusters do, and count what is lost.

    make chaos
    python tests/chaos/chaos.py [result.json] [--only kill] [--times 2] [--lines 1200]

Survived means: one line that tells what is wrong, an exit code that is not 0, whole files, and a run that goes on from
its last checkpoint to its end. A new harm is one more entry of HARMS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

from cluster_harms import kill_a_node, kill_a_shard, lose_s3, requeue
from file_fuzz import broken_photos, is_indexed, is_opened
from malice import KINDS, Intruder, is_harmful
from option_fuzz import COMMANDS, command_lines, is_taken
from rich.console import Console
from rich.table import Table
from trials import PATIENCE, Harm, Place, are_whole, goes_on, is_right, new_run, status, tells, train, wait_for


def end_by(place: Place, harm: signal.Signals, ends_well: Callable[[int, Path], bool]) -> Iterator[bool]:
    """Signal runs at moments that are drawn, and go on."""
    for i in range(place.times):
        run, options = new_run(place, f"{harm.name}-{i}")
        process = train(run, *options)
        wait_for(process, lambda run=run: (run / "checkpoints/last.ckpt").exists())
        sleep(place.rng.random() * 2)
        send = os.kill if i % 2 else os.killpg  # a terminal and many clusters signal those that decode, too
        send(process.pid, harm)
        said = process.communicate(timeout=PATIENCE)[1]
        if status(run) == "finished":  # it was done before
            yield are_whole(run)
            continue
        yield is_right(process, ends_well(process.returncode, run), said) and are_whole(run) and goes_on(run)


def kill(place: Place) -> Iterator[bool]:
    """SIGKILL at any moment."""
    return end_by(place, signal.SIGKILL, lambda code, run: code == -signal.SIGKILL)


def kill_again_and_again(place: Place) -> Iterator[bool]:
    """SIGKILL at 20 moments of one run, which ends as if nothing had happened: the same weights, scores and states."""
    from checkpoints import differences

    long = ("finetune.epochs=50", "trainer.validate_every=5", "checkpoint.every_minutes=1e-3")
    whole, options = new_run(place, "whole", *long)
    process = train(whole, *options)
    is_right(process, True, process.communicate(timeout=PATIENCE)[1])
    run, options = new_run(place, "again", *long)
    last = run / "checkpoints/last.ckpt"
    for _ in range(20):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = train(run, *(options if before == 0 else [f"resume={run}"]))
        wait_for(process, lambda before=before: last.exists() and last.stat().st_mtime_ns != before)
        sleep(place.rng.random() / 2)
        process.kill()
        said = process.communicate(timeout=PATIENCE)[1]
        yield is_right(process, process.returncode == -signal.SIGKILL and are_whole(run), said)
    yield (
        goes_on(run)
        and (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
        and not differences(last, whole / "checkpoints/last.ckpt")
        and not differences(run / "checkpoints/best.ckpt", whole / "checkpoints/best.ckpt")
    )


def terminate(place: Place) -> Iterator[bool]:
    """SIGTERM, as a cluster sends it."""
    return end_by(place, signal.SIGTERM, lambda code, run: code == 143 and status(run) == "interrupted")


def interrupt(place: Place) -> Iterator[bool]:
    """SIGINT, as Ctrl-C sends it."""
    return end_by(place, signal.SIGINT, lambda code, run: code == 130 and status(run) == "interrupted")


def fill_the_disk(place: Place) -> Iterator[bool]:
    """No file may become larger than the first checkpoint, which has no moments of the optimizer yet."""
    for i in range(place.times):
        run, options = new_run(place, f"full-{i}")
        written = tells(train(run, *options, largest_file=3_000_000), str(run), "File too large")
        yield written and are_whole(run) and goes_on(run)


def remove_the_folder(place: Place) -> Iterator[bool]:
    """The run's folder vanishes while it trains."""
    for i in range(place.times):
        run, options = new_run(place, f"gone-{i}")
        process = train(run, *options)
        wait_for(process, lambda run=run: (run / "checkpoints/last.ckpt").exists())
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)  # what was written meanwhile
        yield tells(process, str(run))


def kill_a_worker(place: Place) -> Iterator[bool]:
    """The system kills a process that decodes, for want of memory."""
    for i in range(place.times):
        run, options = new_run(place, f"worker-{i}", "data.cache=off")
        process = train(run, *options)
        wait_for(process, lambda run=run: (run / "checkpoints/last.ckpt").exists())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(process, lambda children=children: children.read_text().split())
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        yield tells(process, "a process that decodes photos", "num_workers") and goes_on(run)


def break_photos(place: Place) -> Iterator[bool]:
    """Two photos are broken: both are named. One is: the run trains on without it."""
    photos = Path(shutil.copytree(place.photos, place.folder / "photos"))
    first, second = sorted(photos.rglob("mask1.*"))[:2]
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:300])
    run, options = new_run(place, "broken", photos=photos)
    yield (
        tells(train(run, *options), str(first.resolve()), str(second.resolve())) and not (run / "result.json").exists()
    )
    shutil.copy(sorted(place.photos.rglob("mask1.*"))[1], second)
    run, options = new_run(place, "skipped", "data.on_bad_photo=skip", photos=photos)
    process = train(run, *options)
    is_right(process, True, process.communicate(timeout=PATIENCE)[1])
    yield status(run) == "finished" and len(json.loads((run / "result.json").read_text())["data"]["skipped"]) == 1


def malicious_files(place: Place) -> Iterator[bool]:
    """A pickle that would run code, as checkpoint, as weights and as predictions."""
    import torch

    from mask_lightning.engine.checkpoint_files import CheckpointFiles
    from mask_lightning.errors import MaskLightningError
    from mask_lightning.inference.prediction_file import read_predictions
    from mask_lightning.inference.trained import load_trained
    from mask_lightning.models.backbones import create_backbone
    from mask_lightning.models.weights import load_pretrained

    mark, backbone = place.folder / "mark", create_backbone("test_resnet")
    readers: dict[str, Callable[[Path], object]] = {
        "best.ckpt": lambda path: load_trained(path, torch.device("cpu")),
        "last.ckpt": lambda path: CheckpointFiles().load_checkpoint(path, weights_only=False),
        "weights.pth": lambda path: load_pretrained(backbone, "test_resnet", str(path)),
        "weights.safetensors": lambda path: load_pretrained(backbone, "test_resnet", str(path)),
        "predictions.parquet": read_predictions,
    }
    for name, read in readers.items():
        for kind in KINDS:
            assert is_harmful(mark)
            kind(place.folder / name, Intruder(mark))
            try:
                read(place.folder / name)
            except MaskLightningError as error:
                yield not mark.exists() and "\n" not in str(error)
            else:
                yield False


def bad_options(place: Place) -> Iterator[bool]:
    """Mutated command lines of every command."""
    for command in COMMANDS:
        share = 0.5 if command == "train" else 0.5 / (len(COMMANDS) - 1)
        for line in command_lines(command, round(place.lines * share), seed=place.rng.randrange(2**32)):
            yield holds(is_taken, command, line)


def bad_photos(place: Place) -> Iterator[bool]:
    """Mutated photos."""
    for _, content in broken_photos(2 * place.lines, seed=place.rng.randrange(2**32)):
        yield holds(is_opened, content, place.folder / "photo.jpg")


def bad_folders(place: Place) -> Iterator[bool]:
    """Mutated folders and tables."""
    for i in range(place.lines // 2):
        (place.folder / str(i)).mkdir()
        yield holds(is_indexed, place.folder / str(i), place.rng.randrange(2**32))


def holds(trial: Callable[..., bool], *arguments: object) -> bool:
    """Return True if a trial of the fuzz ended in a right way; print a wrong end."""
    try:
        trial(*arguments)
    except AssertionError as error:
        print(f"lost: {error}"[:2000], file=sys.stderr)
        return False
    return True


HARMS: dict[str, Harm] = {
    "kill -9": kill,
    "kill -9 again and again": kill_again_and_again,
    "SIGTERM": terminate,
    "Ctrl-C": interrupt,
    "full disk": fill_the_disk,
    "folder vanished": remove_the_folder,
    "worker killed": kill_a_worker,
    "killed shard": kill_a_shard,
    "killed Ray machine": kill_a_node,
    "Slurm requeue": requeue,
    "S3 outage": lose_s3,
    "corrupt photos": break_photos,
    "malicious files": malicious_files,
    "mutated options": bad_options,
    "mutated photos": bad_photos,
    "mutated folders": bad_folders,
}


def try_harm(name: str, harm: Harm, place: Place) -> dict[str, object]:
    """Count the trials; an error of the trial itself counts as lost."""
    started, outcomes = monotonic(), []
    place.folder.mkdir()
    try:
        for survived in harm(place):
            outcomes.append(survived)
            if not survived:
                print(f"lost: {name}, trial {len(outcomes)}", file=sys.stderr)
    except Exception as error:  # such as of a cluster that does not start; the other harms are tried all the same
        print(f"lost: {name}, trial {len(outcomes) + 1}: {type(error).__name__}: {error}", file=sys.stderr)
        outcomes.append(False)
    counts = {"tried": len(outcomes), "survived": sum(outcomes), "lost": len(outcomes) - sum(outcomes)}
    return {"harm": name, **counts, "seconds": round(monotonic() - started, 1)}


def print_table(rows: Sequence[dict[str, object]]) -> None:
    """Print harm, times tried, survived and lost."""
    table = Table(title="what was done, and what it cost")
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading == "harm" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()), style="red" if row["lost"] else None)
    Console().print(table)


def main() -> int:
    """Try all harms, and return 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--only", default="", help="harms whose name holds this")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--lines", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not any(args.only in name for name in HARMS):
        parser.error(f"expected a part of a harm's name ({', '.join(HARMS)}), found --only {args.only}")

    from mask_lightning.synthetic.portraits import write_portraits

    with tempfile.TemporaryDirectory() as folder:
        photos = write_portraits(Path(folder).resolve() / "portraits", people=30)
        rows = []
        for name, harm in HARMS.items():
            if args.only in name:
                place = Path(folder).resolve() / name.replace(" ", "-")
                rng = random.Random(f"{name}-{args.seed}")
                rows.append(try_harm(name, harm, Place(place, photos, args.times, args.lines, rng)))
    print_table(rows)
    if args.path is not None:
        args.path.write_text(json.dumps({"seed": args.seed, "harms": rows}, indent=2) + "\n")
    return int(any(row["lost"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
