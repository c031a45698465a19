"""Serve a trained network over HTTP: check everything first, then start the processes."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from mask_lightning.errors import ServeError
from mask_lightning.inference.trained import choose_device
from mask_lightning.pipelines.output import engine_cache, writable
from mask_lightning.serving.answers import Info, ModelOptions, describe_model
from mask_lightning.serving.uploads import Limits
from mask_lightning.settings.serve import ServeSettings

API_KEY = "MASK_LIGHTNING_API_KEY"  # environment variable: an option would appear in the list of processes
PACKAGES = ("litserve", "python_multipart", "psutil")


def serve(settings: ServeSettings) -> None:
    """Load the network once to check it and to export it for the engine, then serve until SIGTERM or Ctrl-C.

    Raises:
        ServeError: the extra `serve` is not installed, or the port is in use.
        RunFolderError: the folder `keep` cannot be written.
        MaskLightningError: the checkpoint cannot be loaded, or the engine cannot run it.
    """
    require_serving()
    from mask_lightning.serving.server import ServerOptions, check_port, run_server

    check_port(settings.host, settings.port)
    model, device = model_options(settings), choose_device(settings.accelerator)
    if model.keep is not None:
        with writable(model.keep):
            pass
    info = describe_in_process(model, device.type)
    options = ServerOptions(
        host=settings.host,
        port=settings.port,
        max_batch_size=settings.max_batch_size,
        batch_timeout=settings.batch_timeout,
        workers=settings.workers,
        timeout=settings.timeout,
        max_waiting=settings.max_waiting,
        api_key=os.environ.get(API_KEY) or None,
    )
    print(describe(info, options.host, options.port, keyed=options.api_key is not None), file=sys.stderr)
    run_server(model, options, info, device.type)


def describe_in_process(model: ModelOptions, device: str) -> Info:
    """Describe the network in a process of its own, so that LitServe forks one without memory and threads of an engine.

    Raises:
        MaskLightningError: the checkpoint cannot be loaded, or the engine cannot run it.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(describe_model, model, device).result()


def require_serving() -> None:
    """Check that the extra is installed. Raises ServeError, which names it."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise ServeError(
            f"expected the packages of the extra serve, {', '.join(missing)} not installed; "
            "pip install 'mask_lightning[serve]'"
        )


def model_options(settings: ServeSettings) -> ModelOptions:
    """Return what a worker needs to load the network."""
    return ModelOptions(
        ckpt=settings.ckpt.absolute(),
        cache=engine_cache(settings.outputs).absolute(),
        engine=settings.engine,
        calibrated=settings.calibrated == "auto",
        max_faces=settings.max_faces,
        min_size=settings.min_size,
        keep=None if settings.keep is None else settings.keep.absolute(),
        limits=Limits(settings.max_photos, settings.max_photo_mb, settings.max_request_mb, settings.max_megapixels),
    )


def describe(info: Info, host: str, port: int, *, keyed: bool) -> str:
    """Return lines about what is served and where."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    lines = [
        f"loading {info.run} ({', '.join(info.tasks)}; crop {info.crop}, engine {info.engine})",
        f"when ready, http://{shown}:{port} is the page, and /predict takes photos; stop with Ctrl-C",
    ]
    if not keyed and host != shown:
        lines.append(f"anyone who reaches port {port} can use it; set the environment variable {API_KEY} to a key")
    return "\n".join(lines)
