"""Peak memory of `predict` for many photos: one tiny photo under many names, a tiny network.

    python tests/benchmarks/bench_predict_rows.py [result.json] [--rows 100000 200000]

Each prediction is a process of its own; what counts is its resident memory as the system reports it at its end. The
list of photos is in memory; the predictions are not. No files are listed, and the photo is decoded once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

OPTIONS = ("accelerator=cpu", "num_workers=0", "progress=false", "batch_size=256")


def predict(folder: Path, rows: int) -> None:
    """Predict `rows` photos with the run in `folder`; in a process of its own."""
    import pandas as pd

    from mask_lightning.cli.compose import compose
    from mask_lightning.inference.dataset import PredictionDataset, PreparedPhoto
    from mask_lightning.inference.photo_list import PhotoList
    from mask_lightning.pipelines import predict as pipeline
    from mask_lightning.settings.base import check
    from mask_lightning.settings.inference import PredictSettings

    photo = str(folder / "photo.png")
    names = pd.Series((f"{i:08d}-a-name-as-long-as-those-of-the-competition.jpg" for i in range(rows)), dtype=str)
    table = pd.DataFrame({"photo": names, "path": pd.Series([photo], dtype=str).repeat(rows).to_numpy()}).astype("str")
    decode, prepared = PredictionDataset.__getitem__, {}

    def decode_once(dataset: PredictionDataset, _: int) -> PreparedPhoto:
        if not prepared:
            prepared[0] = decode(dataset, 0)
        return prepared[0]

    PredictionDataset.__getitem__ = decode_once  # type: ignore[method-assign]
    setattr(pipeline, "read_photo_list", lambda *_, **__: PhotoList(table, "folder", folder))  # noqa: B010
    options = [f"ckpt={folder / 'run'}", f"data.root={folder}", *OPTIONS]
    pipeline.predict_photos(check(PredictSettings, compose("predict", PredictSettings, options)), folder / str(rows))


def measure(folder: Path, rows: int) -> dict[str, float]:
    """Return peak memory (MB) and seconds of a prediction."""
    start = perf_counter()
    command = [sys.executable, __file__, "--folder", str(folder), "--rows", str(rows)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    megabytes = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {"rows": rows, "megabytes": round(megabytes, 1), "seconds": round(perf_counter() - start, 1)}


def train(folder: Path) -> None:
    """Train a tiny network into `folder`/run, and write the photo."""
    from PIL import Image

    tiny = ("model.backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "logger=none")
    options = [*tiny, "finetune=none", "finetune.epochs=1", "trainer.max_batches=1", "data.limit_people=60"]
    place = [f"outputs={folder}", f"hydra.run.dir={folder}/run", "trainer.accelerator=cpu", "trainer.progress=false"]
    command = [sys.executable, "-m", "mask_lightning.train", *options, *place]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Image.new("RGB", (32, 43), "grey").save(folder / "photo.png")


def main() -> None:
    """Measure, print and write the memory per number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 200_000])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        predict(arguments.folder, arguments.rows[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder))
        found = [measure(Path(folder), rows) for rows in arguments.rows]
    growth = (found[-1]["megabytes"] - found[0]["megabytes"]) * 1e6 / (found[-1]["rows"] - found[0]["rows"])
    bars = [{"what": "bytes of memory per photo", "value": round(growth), "at_most": 1000}]
    text = json.dumps({"runs": found, "bars": bars}, indent=2)
    print(text)
    if arguments.result:
        arguments.result.write_text(text + "\n")


if __name__ == "__main__":
    main()
