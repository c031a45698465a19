"""Describe the installation: what a bug report needs, and what is missing for an option."""

from __future__ import annotations

import os
import platform
import re
import shutil
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
import yaml
from huggingface_hub.constants import HF_HUB_CACHE

import mask_lightning
from mask_lightning.cli.compose import config_dir
from mask_lightning.models.weights import find_on_disk
from mask_lightning.settings.evaluation import DoctorSettings
from mask_lightning.utils.system import share_of_cores

PACKAGE = "mask_lightning"
EXTRAS = {  # extra -> what it adds
    "offline": "ImageNet weights of model=lite0 and model=lite2 without a download",
    "wandb": "logger=wandb",
    "mlflow": "logger=mlflow",
    "trackio": "logger=trackio; needs pillow < 13",
    "heic": "HEIC photos of phones",
    "faces": "data.crop=face: find the face in any photo",
    "serve": "serve: an HTTP server with a web page",
    "export": "export, benchmark, engine=onnx and openvino",
    "landmarks": "mask_faces landmarks=mediapipe",
    "packed": "pack, data=packed: photos in chunks, also in S3",
    "optuna": "sweeper=optuna",
    "joblib": "launcher=joblib",
    "slurm": "launcher=slurm",
    "ray": "launcher=ray",
    "bench": "fastai for make bench",
    "docs": "make docs, and the tests of the notebooks",
    "dev": "tests and linters",
}
SHOWN = ["torch", "torchvision", "pytorch-lightning", "timm", "hydra-core", "pydantic", "numpy", "pandas", "pillow"]
DOWNLOADED = "not on this machine; downloaded from timm's hub if it answers, else training starts from scratch"
COLUMN = 12  # characters before the text of a section


def describe_installation(settings: DoctorSettings) -> str:
    """Return the description, a line or more for each subject."""
    lines: list[str] = []
    for title, texts in (
        ("version", [f"mask_lightning {mask_lightning.__version__}, Python {platform.python_version()}"]),
        ("system", [platform.platform()]),
        ("packages", [", ".join(f"{name} {_version(name) or 'missing'}" for name in SHOWN)]),
        ("devices", list(_devices())),
        ("memory", [_memory()]),
        ("disk", [_disk(settings.outputs)]),
        ("caches", list(_caches(settings.outputs))),
        ("weights", list(_weights())),
        ("extras", list(_extras())),
    ):
        for i, text in enumerate(texts):
            indent = " " * COLUMN
            first = title.ljust(COLUMN) if i == 0 else indent
            width = shutil.get_terminal_size((100, 24)).columns
            wrapper = textwrap.TextWrapper(
                max(width, 60), initial_indent=first, subsequent_indent=f"{indent}  ", break_on_hyphens=False
            )
            lines.append(wrapper.fill(text))
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    threads = f"{share_of_cores()} usable of {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    yield f"CPU: {threads}"
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            yield f"GPU {i}: {about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield f"no CUDA GPU found; {built}"
    if torch.backends.mps.is_available():
        yield "MPS (Apple GPU)"


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (os.sysconf(name) * page / 2**30 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (ValueError, OSError):  # macOS does not tell the free pages
        return "not known on this system"
    shared = Path("/dev/shm")
    between = f"; {shutil.disk_usage(shared).free / 2**30:.1f} GiB shared" if shared.is_dir() else ""
    return f"{free:.1f} GiB unused of {total:.1f} GiB{between}"


def _disk(outputs: Path) -> str:
    there = next(folder for folder in (outputs.absolute(), *outputs.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(there)
    writable = "" if os.access(there, os.W_OK) else ", not writable"
    return f"{usage.free / 1e9:.0f} GB free of {usage.total / 1e9:.0f} GB for {outputs}{writable}"


def _caches(outputs: Path) -> Iterator[str]:
    places = {"photos": outputs / "cache", "weights of timm's hub": Path(HF_HUB_CACHE)}
    for what, folder in places.items():
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_size for path in files)
        yield f"{what}: {len(files)} files, {size / 1e9:.2f} GB in {folder}"


def _weights() -> Iterator[str]:
    """Yield where the pretrained weights of each choice of `model` are."""
    for path in sorted((config_dir() / "model").glob("*.yaml")):
        name = (yaml.safe_load(path.read_text()) or {}).get("backbone")
        if name:
            place = find_on_disk(name)
            yield f"model={path.stem}: {place or DOWNLOADED}"


def _extras() -> Iterator[str]:
    """Yield what is installed, then a line for each missing extra with the packages that it lacks."""
    lacking = {extra: list(missing_packages(extra)) for extra in _known_extras()}
    present = [extra for extra, missing in lacking.items() if not missing]
    yield f"installed: {', '.join(present) or 'none'}"
    for extra, missing in lacking.items():
        if missing:
            adds = EXTRAS.get(extra, "see pyproject.toml")
            yield f"missing: {extra} ({adds}), lacks {', '.join(missing)}; pip install '{PACKAGE}[{extra}]'"


def _known_extras() -> list[str]:
    found = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    return [*(extra for extra in EXTRAS if extra in found), *(extra for extra in found if extra not in EXTRAS)]


def missing_packages(extra: str) -> Iterator[str]:
    """Yield the packages of an extra of this package that are not installed here."""
    for line in metadata.requires(PACKAGE) or ():  # such as: wandb>=0.19; extra == "wandb"
        name, marker = re.match(r"[\w.-]+", line), line.partition(";")[2]
        if name and re.search(rf"""extra == ["']{extra}["']""", marker) and _version(name[0]) is None:
            yield name[0]
