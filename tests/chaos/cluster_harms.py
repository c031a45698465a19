"""Damage beyond one process: shards, a machine of a cluster and the S3 server are killed, and jobs are queued again."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from checkpoints import differences
from trials import PATIENCE, Place, goes_on, is_right, new_run, status, tells, train, wait_for

sys.path.append(str(Path(__file__).parents[1] / "shared"))  # clusters and servers of the tests

NAMES = ("predictions.parquet", "predictions.csv")
PREDICT = ("batch_size=8", "num_workers=1", "accelerator=cpu", "progress=false")
PER_CHUNK = 8  # 27 chunks of packed photos
LONG = "finetune.epochs=60"


def finish(run: Path, *options: str, command: str = "train") -> bool:
    """Run a command to its end, and return True if it succeeds."""
    process = train(run, *options, command=command)
    said = process.communicate(timeout=PATIENCE)[1]
    return is_right(process, process.returncode == 0, said)


def predict(folder: Path, *options: str) -> list[str]:
    """Return the options that predict into a folder."""
    return [*options, *PREDICT, f"hydra.run.dir={folder}"]


def are_equal(folder: Path, expected: Path) -> bool:
    """Return True if the predictions in both folders have the same bytes."""
    return all((folder / name).read_bytes() == (expected / name).read_bytes() for name in NAMES)


def kill_a_shard(place: Place) -> Iterator[bool]:
    """Kill a prediction in shards, or one of its processes; repeated and merged, it equals a single prediction."""
    run, options = new_run(place, "run")
    same = (f"ckpt={run}", f"data.root={place.photos / 'train'}")
    whole = place.folder / "whole"
    ready = finish(run, *options) and finish(whole, *predict(whole, *same), command="predict")
    for i in range(place.times):
        outputs, merged = place.folder / f"shards-{i}", place.folder / f"merged-{i}"
        launcher = ("launcher=joblib", "hydra.launcher.n_jobs=2") if i % 2 else ()
        shards = ("-m", "shards=8", f"outputs={outputs}", *launcher, *same, *PREDICT)
        process = train(outputs, *shards, command="predict")
        wait_for(process, lambda outputs=outputs: list(outputs.rglob("shard-*.parquet")))
        sleep(place.rng.random() / 2)
        if launcher:
            os.kill(joblib_workers(process.pid)[0], signal.SIGKILL)
        else:
            process.kill()
        said = process.communicate(timeout=2 * PATIENCE)[1]
        ended = is_right(process, process.returncode not in (None, 0) and "Traceback" not in said, said)
        again = train(outputs, *shards, command="predict")
        said = again.communicate(timeout=2 * PATIENCE)[1]
        repeated = is_right(again, again.returncode == 0 and "is finished in" in said, said)
        (parts,) = {path.parent for path in outputs.rglob("shard-*.parquet")}
        merge = finish(merged, f"shards={parts}", f"hydra.run.dir={merged}", command="merge")
        yield ready and ended and repeated and merge and are_equal(merged, whole)


def joblib_workers(parent: int) -> list[int]:
    """Return the processes in which joblib runs the jobs of a command."""
    children = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return [child for child in children if b"LokyProcess" in Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_a_node(place: Place) -> Iterator[bool]:
    """Kill one of two machines of a Ray cluster while both train; nothing is tried without Ray."""
    if find_spec("ray") is None:
        return
    from ray_cluster import ray_cluster

    for i in range(place.times):
        sweep, options = new_run(place, f"node-{i}", LONG, f"hydra.sweep.dir={place.folder}/node-{i}")
        with ray_cluster() as cluster:
            ray = ("launcher=ray", f"hydra.launcher.address={cluster.address}")
            process = train(sweep, "-m", "seed=0,1", *ray, *options)
            wait_for(process, lambda sweep=sweep: len(list(sweep.glob("*/metrics.csv"))) == 2)
            sleep(place.rng.random())
            cluster.kill_second()
            said = process.communicate(timeout=2 * PATIENCE)[1]
        right = process.returncode == 0 and said.count("is repeated") == 1
        yield is_right(process, right and all(is_complete(run) for run in (sweep / "0", sweep / "1")), said)


def is_complete(run: Path) -> bool:
    """Return True if the run is finished and has each epoch once."""
    epochs = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    return status(run) == "finished" and epochs == [str(i) for i in range(60)]


def requeue(place: Place) -> Iterator[bool]:
    """Preempt each job of a Slurm array, and kill the controller meanwhile; nothing is tried without Slurm and root."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.getuid() != 0 or find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        return
    from slurm_cluster import slurm_cluster

    sweep, options = new_run(place, "sweep", LONG, f"hydra.sweep.dir={place.folder}/sweep")
    node = ("gpus_per_node=null", "cpus_per_task=1", "mem_gb=null", "timeout_min=30")
    jobs = [str(i) for i in range(place.times)]
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        slurm_cluster(Path(folder)) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        launcher = ("launcher=slurm", *(f"hydra.launcher.{option}" for option in node))
        process = train(sweep, "-m", f"seed={','.join(jobs)}", *launcher, *options)
        for job in jobs:
            wait_for(process, lambda job=job: (sweep / job / "metrics.csv").exists())
            cluster.run("scancel", "--signal=USR2", cluster.job_ids()[job])
        cluster.kill("slurmctld")
        sleep(2)
        cluster.start_controller()
        said = process.communicate(timeout=4 * PATIENCE)[1]
    logs = "".join(path.read_text() for path in sweep.glob(".submitit/*/*_log.*"))
    for job in jobs:
        resumed = f"continues in {sweep / job}, which was interrupted" in logs
        yield is_right(process, process.returncode == 0 and resumed and is_complete(sweep / job), said + logs)


@dataclass(frozen=True)
class Bucket:
    """Packed photos on an S3 server behind a proxy.

    Attributes:
        store: folder of the buckets.
        proxy: stands before the server, which may be started again at another port.
        servers: the running server.
    """

    store: Path
    proxy: Any
    servers: ExitStack

    def start(self) -> None:
        """Start the server, without the faults of before."""
        from s3_server import serving

        self.proxy.target, self.proxy.delay, self.proxy.cut = self.servers.enter_context(serving(self.store)), 0.0, 0

    def kill(self) -> None:
        """Kill the server, and with it its connections."""
        self.servers.close()


def lose_s3(place: Place) -> Iterator[bool]:
    """Slow the S3 server of packed photos, cut connections, or kill it, while a run trains or predicts.

    The results equal those of an undisturbed server; after a killed server the command is repeated. Nothing is tried
    without rclone and the extra `packed`.
    """
    if shutil.which("rclone") is None or find_spec("boto3") is None or find_spec("litdata") is None:
        return
    from s3_server import Proxy, use

    store = place.folder / "s3"
    largest = pack(place, store / "bucket" / "faces")
    address = ("data.root=s3://bucket/faces", f"data.cache_gb={12.1 * largest / 1e9}")  # as little as is allowed
    with ExitStack() as servers, pytest.MonkeyPatch.context() as patch:
        bucket = Bucket(store, Proxy(0), servers)
        bucket.start()
        use(patch, bucket.proxy.port)
        whole, options = new_run(place, "whole", "data=packed", *address, "finetune.epochs=8")
        options.append(f"data.cache_dir={place.folder / 'copies'}")
        predicted = place.folder / "predicted"
        outputs = f"outputs={place.folder}"
        ready = finish(whole, *options)
        ready = ready and finish(whole, *predict(predicted, f"ckpt={whole}", *address, outputs), command="predict")
        for i in range(place.times):
            for fault in ("slow", "cut", "killed"):
                shutil.rmtree(place.folder / "copies", ignore_errors=True)
                shutil.rmtree(place.folder / "cache", ignore_errors=True)
                folder = place.folder / f"{fault}-{i}"
                if i % 2:
                    command = predict(folder, f"ckpt={whole}", *address, outputs)
                    yield ready and predicts_through(fault, bucket, folder, command, predicted)
                else:
                    command = [*options, f"hydra.run.dir={folder}"]
                    yield ready and trains_through(fault, bucket, folder, command, whole, place.rng.random() / 2)


def pack(place: Place, out: Path) -> int:
    """Pack the photos in chunks of a few, and return the bytes of the largest chunk."""
    from mask_lightning.cli.compose import compose
    from mask_lightning.pipelines import pack
    from mask_lightning.settings.base import check
    from mask_lightning.settings.pack import PackSettings

    out.parent.mkdir(parents=True)
    places = (f"data.root={place.photos}", f"out={out}", f"outputs={place.folder}")
    options = (*places, "image_size=32", "data.num_workers=0", "progress=false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "photos_per_chunk", lambda *_: PER_CHUNK)
        manifest = pack.pack_photos(check(PackSettings, compose("pack", PackSettings, options)))
    return max(chunk.size for chunk in manifest.chunks)


def trains_through(fault: str, bucket: Bucket, run: Path, options: Sequence[str], whole: Path, wait: float) -> bool:
    """Return True if a run ends as the undisturbed one; with a killed server after an error in one line."""
    if fault == "killed":
        process = train(run, *options)
        wait_for(process, lambda: (run / "checkpoints/last.ckpt").exists())
        sleep(wait)
        bucket.kill()
        told = tells(process, "cannot access s3://bucket/faces/chunk", "resume=RUN") and status(run) == "failed"
        bucket.start()
        ended = told and goes_on(run)
    else:
        bucket.proxy.delay, bucket.proxy.cut = (0.02, 0) if fault == "slow" else (0.0, 3)
        ended = finish(run, *options)
        bucket.proxy.delay, bucket.proxy.cut = 0.0, 0
    return (
        ended
        and (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
        and not differences(run / "checkpoints/last.ckpt", whole / "checkpoints/last.ckpt")
    )


def predicts_through(fault: str, bucket: Bucket, folder: Path, options: Sequence[str], expected: Path) -> bool:
    """Return True if the predictions equal the undisturbed ones; with a killed server after an error in one line."""
    bucket.proxy.delay, bucket.proxy.cut = (0.0, 3) if fault == "cut" else (0.2, 0)
    if fault == "killed":
        process = train(folder, *options, command="predict")
        wait_for(process, lambda: len(list(folder.parent.glob("cache/packed-faces-*/*.bin"))) >= 3)
        bucket.kill()
        told = tells(process, "cannot access s3://bucket/faces/chunk") and not list(folder.glob("predictions*"))
        bucket.start()
    else:
        told = True
    ended = told and finish(folder, *options, command="predict")
    bucket.proxy.delay, bucket.proxy.cut = 0.0, 0
    return ended and are_equal(folder, expected)
