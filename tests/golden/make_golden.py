"""Make the archives beside this file: tiny runs of every kind, as version 0.1.0 of the package leaves them.

tests/test_golden.py resumes, predicts, votes, evaluates and compares them with the current package. The archives were
made at commit 38d93a9, the last one before the package was restructured, with Python 3.11.7, torch 2.14.1, Lightning
2.6.6 and timm 1.0.31. Run the script in an empty folder outside of the checkout, with the old package on the path:

    git worktree add ../old 38d93a9
    cd "$(mktemp -d)" && PYTHONPATH=/path/to/old python /path/to/tests/golden/make_golden.py

Commands are typed as users type them, with paths relative to that folder, so the runs stay valid wherever they are
unpacked. Never make these archives again with a later version: they prove that files of 0.1.0 stay readable. Add
archives for the later version instead.

    photos       24 people with seven drawn photos of 24 x 32 pixels each, and 12 photos without labels
    finished     a run in two phases with both checkpoints, its evaluation (with temperatures) and its predictions
    interrupted  two recipes, each trained once as a whole and once until Ctrl-C in the middle of an epoch
    sweep        a multirun over two seeds, and the CSV that `compare` made of it
    folds        a cross-validation with two folds, and the label issues that `suspects` found with it
    ensemble     three age members and the result of `vote`
    variants     a finished run for each head, sharing, averaging, weighting and optimizer, and its predictions

Left out are figures, HTML pages, logs, Hydra's multirun.yaml, the photo cache, the soups of `vote` and best.ckpt of the
runs trained as a whole.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from golden_runs import GOLDEN, ResNet, pack, run_command

TINY = (
    "model.backbone=golden_resnet",
    "model.pretrained=false",
    "model.image_size=32",
    "data.root=photos",
    "data.crop_height=32",
    "data.crop_width=24",
    "data.num_workers=0",
    "data.batch_size=16",
    "data.val_fraction=0.25",
    "data.clean_train_photos=28",
    "logger=none",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false")
TWO_PHASES = ("finetune.phases.0.unfreeze.last=2", "finetune.frozen_epochs=1", "finetune.epochs=2", "optim.lr=0.05")
ONE_PHASE = ("finetune=none", "finetune.epochs=3", "optim.lr=0.02")
SMALL = ("checkpoint.keep=best", "checkpoint.half=true")

RECIPES = {  # name -> options, and the last optimizer step before Ctrl-C
    "plain": (("model.drop_rate=0.2", "data.balanced_by=[age]"), 11),  # in the second phase
    "ranger": (("optim=ranger", "schedule=flat_cosine", "averaging=ema", "weighting=uncertainty", "mix=cutmix"), 4),
}
VARIANTS = {
    "regression": ("head=regression",),
    "ordinal": ("head=ordinal",),
    "classes_and_regression": ("head=classes_and_regression",),
    "cross_stitch": ("sharing=cross_stitch",),
    "attention": ("sharing=attention",),
    "separate": ("sharing=none",),
    "ema": ("averaging=ema",),
    "uncertainty": ("weighting=uncertainty",),
    "dwa": ("weighting=dwa",),
    "ranger": ("optim=ranger", "schedule=flat_cosine"),
    "gender": ("task=gender",),
}

SHOTS = {"mask1": 0, "mask2": 0, "mask3": 0, "mask4": 0, "mask5": 0, "incorrect_mask": 1, "normal": 2}
PEOPLE = (
    ("female", "Asian", (18, 22, 24, 26, 28, 29)),
    ("female", "White", (30, 36, 41, 48, 59)),
    ("female", "Black", (60, 63, 70)),
    ("male", "Asian", (19, 25, 29, 23)),
    ("male", "Indian", (31, 44, 50, 57)),
    ("male", "White", (60, 66)),
)


def draw(gender: str, years: int, mask: int, rng: np.random.Generator) -> Image.Image:
    """Draw 24 x 32 pixels: the background shows the gender, a band on top the age, a patch below the mask."""
    pixels = np.empty((32, 24, 3))
    pixels[:] = (170, 90, 90) if gender == "female" else (90, 90, 170)
    pixels[2:12] = 40 + 80 * np.digitize(years, (30, 60))
    pixels[18:28, 5:19] = ((240, 240, 240), (60, 200, 60), (200, 150, 120))[mask]
    noise = rng.normal(0, 25, (4, 3, 3)).repeat(8, axis=0).repeat(8, axis=1)  # flat squares compress well
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def make_photos(root: Path) -> None:
    """Draw train/ and eval/ in the competition's layout, as PNG because JPEG decoders differ."""
    rng = np.random.default_rng(0)
    people = [(gender, race, age) for gender, race, ages in PEOPLE for age in ages]
    for i, (gender, race, age) in enumerate(people, 1):
        folder = root / "train" / "images" / f"{i:06d}_{gender}_{race}_{age}"
        folder.mkdir(parents=True)
        for shot, mask in SHOTS.items():
            draw(gender, age, mask, rng).save(folder / f"{shot}.png", optimize=True)
    answered = root / "eval" / "images"
    answered.mkdir(parents=True)
    names = [f"{i:02d}.png" for i in range(12)]
    for i, name in enumerate(names):
        draw(("female", "male")[i % 2], (22, 45, 65)[i % 3], i // 4, rng).save(answered / name, optimize=True)
    pd.DataFrame({"ImageID": names, "ans": 0}).to_csv(root / "eval" / "info.csv", index=False)


@contextmanager
def ctrl_c_after(steps: int) -> Iterator[None]:
    """Send SIGINT to this process during training step `steps`; the run finishes that step, saves and stops."""
    count = 0

    def forward(module: torch.nn.Module, *_: Any) -> None:
        nonlocal count
        if isinstance(module, ResNet) and module.training and torch.is_grad_enabled():
            count += 1
            if count == steps:
                os.kill(os.getpid(), signal.SIGINT)

    hook = register_module_forward_hook(forward)
    try:
        yield
    finally:
        hook.remove()


def run(name: str, *arguments: str, code: int = 0) -> None:
    """Run a command, which must exit with `code`."""
    found = run_command(name, *arguments)
    assert found == code, (name, arguments, found)


train = partial(run, "train", *TINY)
multirun = partial(run, "train", "-m", *TINY)


def predict(name: str, *options: str) -> None:
    """Predict photos/eval with the run `name`."""
    where = f"hydra.run.dir=outputs/predictions/{name}"
    run("predict", f"ckpt=outputs/runs/{name}", "data.root=photos/eval", *QUIET, *options, where)


def make_finished() -> None:
    learning = ("finetune.epochs=12", "augment=none", "data.balanced_by=[mask,age]")
    train(*TWO_PHASES, *learning, "hydra.run.dir=outputs/runs/finished")
    where = "hydra.run.dir=outputs/evaluations/finished"
    run("evaluate", "ckpt=outputs/runs/finished", "calibrate=true", *QUIET, where)
    predict("finished")  # uses the temperatures that `evaluate` has kept


def make_interrupted() -> None:
    for name, (options, steps) in RECIPES.items():
        fixed = (*TWO_PHASES, *options)
        train(*fixed, f"hydra.run.dir=outputs/runs/{name}_whole")
        Path(f"outputs/runs/{name}_whole/checkpoints/best.ckpt").unlink()  # to save space: the test compares last.ckpt
        with ctrl_c_after(steps):
            train(*fixed, f"hydra.run.dir=outputs/runs/{name}", code=130)
        last = torch.load(f"outputs/runs/{name}/checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == steps, (name, last["global_step"])


def make_sweep() -> None:
    multirun(*ONE_PHASE, *SMALL, "seed=0,1", "data.split_seed=0", "hydra.sweep.dir=outputs/sweeps/seeds")
    run("compare", "runs=outputs/sweeps/seeds", "out=outputs/compare.csv")


def make_folds() -> None:
    multirun(*ONE_PHASE, *SMALL, "data.folds=2", "data.fold=0,1", "hydra.sweep.dir=outputs/sweeps/folds")
    run("suspects", "runs=outputs/sweeps/folds", *QUIET, "hydra.run.dir=outputs/suspects/folds")


def make_ensemble() -> None:
    multirun(*ONE_PHASE, *SMALL, "member=age0,age1,age2", "hydra.sweep.dir=outputs/sweeps/age")
    options = ("runs=outputs/sweeps/age", "data.root=photos/eval", "allow_missing=true", "submission=false", *QUIET)
    run("vote", *options, "hydra.run.dir=outputs/votes/age")
    for soup in Path("outputs/votes/age").glob("*.ckpt"):  # to save space: `vote` makes them again
        soup.unlink()


def make_variants() -> None:
    for name, options in VARIANTS.items():
        train(*ONE_PHASE, *SMALL, *options, f"hydra.run.dir=outputs/runs/{name}")
        predict(name, *(["submission=false"] if name == "gender" else []))


KINDS: dict[str, Callable[[], None]] = {
    "finished": make_finished,
    "interrupted": make_interrupted,
    "sweep": make_sweep,
    "folds": make_folds,
    "ensemble": make_ensemble,
    "variants": make_variants,
}


def main() -> None:
    """Train in the current folder, which must be empty, and write the archives beside this file."""
    import mask_lightning

    assert mask_lightning.__version__ == "0.1.0", mask_lightning.__version__
    torch.set_num_threads(1)
    print(f"package: {mask_lightning.__file__}")
    make_photos(Path("photos"))
    sizes = [pack("photos", Path(), "photos")]
    for kind, make in KINDS.items():
        make()
        sizes.append(pack(kind, Path(), "outputs"))
        shutil.rmtree("outputs")
    for archive in sizes:
        print(f"{archive.relative_to(GOLDEN.parent)}: {archive.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
