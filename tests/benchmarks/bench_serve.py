"""Clients of a server at once: throughput relative to the engine alone, latencies, and memory at the start and the end.

    python tests/benchmarks/bench_serve.py [result.json] [--seconds 20] [--clients 16] [--engine onnx] [--ckpt RUN]

Without --ckpt the network is lite0 at 224 pixels with random weights, and photos are drawn portraits of 384 x 512
pixels, one per request. In the same run, one process decodes and predicts the same photos in batches of
`max_batch_size` as a worker does ("bare pipeline"), and predicts prepared images ("bare network"). Throughputs are
ratios of these, as the speed of a machine drifts; the three take turns in rounds. The clients share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytorch_lightning as pl
import torch
from bench_predict import build

from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.serving.answers import ModelOptions, Predictor
from mask_lightning.serving.uploads import Upload
from mask_lightning.synthetic.portraits import write_portraits

BATCH = 8
WARM_UP = 2.0  # seconds


def write_checkpoint(path: Path, backbone: str, size: int) -> Path:
    """Write Lightning's checkpoint of an untrained network."""
    trained = build(backbone, TransformSpec(size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(trained.module)
    trainer.save_checkpoint(path)
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def post(port: int, content: bytes, boundary: str) -> int:
    """Send a form; return the status."""
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def form(content: bytes) -> tuple[bytes, str]:
    """A form with one photo, and its boundary."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), boundary


def load(port: int, photos: list[bytes], clients: int, seconds: float) -> tuple[list[float], int]:
    """Let clients ask one after the other's answer; return the latencies, and the number of failures."""
    latencies: list[float] = []
    failures = 0
    lock, end = threading.Lock(), time.monotonic() + seconds

    def ask(client: int) -> None:
        nonlocal failures
        i = client
        while time.monotonic() < end:
            content, boundary = form(photos[i % len(photos)])
            started = time.monotonic()
            status = post(port, content, boundary)
            with lock:
                latencies.append(time.monotonic() - started)
                failures += status != 200
            i += clients

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, failures


def rate(work: Callable[[], int], seconds: float) -> float:
    """Repeat work for some seconds; return photos per second."""
    started, done = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        done += work()
    return done / (time.monotonic() - started)


def memory(process: psutil.Process) -> float:
    """Megabytes of a process and of those below; shared pages count in parts."""
    return sum(each.memory_full_info().pss for each in [process, *process.children(recursive=True)]) / 1e6


def main() -> None:
    """Print the facts; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--ckpt", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        facts = measure(args, Path(temporary))
    print(json.dumps(facts, indent=2))
    if args.path:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start a server, and measure it and the bare engine in turns."""
    root = write_portraits(folder / "portraits", people=24)
    photos = [Path(path).read_bytes() for path in read_index(root).head(96)["path"]]
    ckpt = (args.ckpt or write_checkpoint(folder / "net.ckpt", "tf_efficientnet_lite0", 224)).absolute()
    cache = folder / "outputs" / "cache" / "engines"
    predictor = Predictor(ModelOptions(ckpt, cache, engine=args.engine), torch.device("cpu"))
    uploads = [Upload("a.jpg", content) for content in photos]
    pixels = np.stack([face.pixels for photo in predictor.decode(uploads[:BATCH]) for face in photo.faces])

    def pipeline() -> int:
        predictor.answer([predictor.decode(uploads[:BATCH])])
        return BATCH

    def network() -> int:
        predictor.probabilities(pixels)
        return len(pixels)

    port = free_port()
    options = (f"ckpt={ckpt}", f"port={port}", f"engine={args.engine}", f"max_batch_size={BATCH}", "accelerator=cpu")
    command = [sys.executable, "-m", "mask_lightning.serve", *options, f"outputs={folder / 'outputs'}"]
    server = subprocess.Popen(command, cwd=folder)
    try:
        wait_for(port, server)
        process = psutil.Process(server.pid)
        load(port, photos, args.clients, WARM_UP)
        start = memory(process)
        rounds, latencies, failures = [], [], 0
        for _ in range(args.rounds):
            bare = rate(pipeline, args.seconds / 4 / args.rounds)
            alone = rate(network, args.seconds / 4 / args.rounds)
            found, failed = load(port, photos, args.clients, args.seconds / args.rounds)
            rounds.append((len(found) / (args.seconds / args.rounds), bare, alone))
            latencies += found
            failures += failed
        end = memory(process)
    finally:
        server.terminate()
        code = server.wait(60)
    served, bare, alone = (statistics.median(values) for values in zip(*rounds, strict=True))
    p50, p95, p99 = (float(value) for value in np.quantile(latencies, (0.5, 0.95, 0.99)))
    return {
        "clients": args.clients,
        "seconds": args.seconds,
        "engine": args.engine,
        "cores": len(os.sched_getaffinity(0)),
        "requests": len(latencies),
        "failures": failures,
        "served_per_s": round(served, 1),
        "bare_pipeline_per_s": round(bare, 1),
        "bare_network_per_s": round(alone, 1),
        "served_over_bare_network": round(statistics.median(a / c for a, _, c in rounds), 3),
        "latency_ms": {"p50": round(1e3 * p50), "p95": round(1e3 * p95), "p99": round(1e3 * p99)},
        "memory_mb": {"start": round(start), "end": round(end)},
        "exit_code": code,
        "bars": [
            {
                "what": "served over bare pipeline, photos per second",
                "value": round(statistics.median(a / b for a, b, _ in rounds), 3),
                "at_least": 0.8,
            },
            {"what": "failed requests", "value": failures, "at_most": 0},
            {"what": "memory at the end over the start", "value": round(end / start, 3), "at_most": 1.1},
        ],
    }


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until a worker is ready."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
