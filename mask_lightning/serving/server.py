"""Processes of the server with LitServe: one for HTTP, and workers that decode and predict batches of requests.

LitServe starts the processes, forms the batches and replaces dead workers. Added here, as LitServe 0.2.19 lacks it:
an idle worker waits without polling, the requests of a dead worker are refused at once, SIGTERM drains, a dead HTTP
process ends the server, and no process survives a killed server.

Annotations are not postponed in this module: LitServe passes those of `decode_request` to FastAPI.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from queue import Empty
from types import FrameType
from typing import Any

import psutil
import torch
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops.base import collate_requests
from litserve.loops.simple_loops import BatchedLoop
from litserve.utils import LitAPIStatus, ResponseBufferItem, WorkerSetupStatus

from mask_lightning.errors import ServeError
from mask_lightning.serving.answers import (
    Answer,
    DecodedPhoto,
    Info,
    ModelOptions,
    Predictor,
    answer_all,
    decode_or_refuse,
)
from mask_lightning.serving.app import Service, create_app
from mask_lightning.serving.uploads import RefusedError, Upload
from mask_lightning.utils.system import JOBS, ignore_signals, keep_memory

log = logging.getLogger(__name__)

PATH = "/predict"
WEB_PROCESS = "LitServer-0"  # LitServe's name
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class ServerOptions:
    """How requests are collected and where the server listens; names and units as the options of `serve`."""

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch_size: int = 8
    batch_timeout: float = 0.01
    workers: int = 1
    timeout: float = 30.0
    max_waiting: int = 64
    api_key: str | None = None


class PatientLoop(BatchedLoop):  # type: ignore[misc]  # litserve may be missing
    """LitServe's batched loop, but waiting for the first request instead of asking for one all the time."""

    @property
    def worker_id(self) -> int:
        """Process id. LitServe sends it to the HTTP process with each request that a worker begins."""
        return os.getpid()

    def get_batch_requests(self, lit_api: Any, request_queue: Any, transport: Any) -> tuple[list[Any], list[Any]]:
        """Return the requests of the next batch, and those that waited for too long."""
        try:
            first = request_queue.get(timeout=POLL_SECONDS)
        except Empty:
            return [], []
        except (EOFError, ConnectionError):  # the server was killed
            raise SystemExit(0) from None
        queue = _Returned(request_queue, first)
        batch, late = collate_requests(loop=self, lit_api=lit_api, request_queue=queue, transport=transport)
        return batch, late


class _Returned:
    """A queue whose first element was taken and is returned."""

    def __init__(self, queue: Any, first: Any) -> None:
        self._queue, self._first = queue, [first]

    def get(self, timeout: float) -> Any:
        return self._first.pop() if self._first else self._queue.get(timeout=timeout)

    def get_nowait(self) -> Any:
        return self._first.pop() if self._first else self._queue.get_nowait()


class FaceApi(LitAPI):  # type: ignore[misc]
    """Work of a LitServe worker: decode each request, predict a batch.

    Args:
        options: how to load the network.
        workers: number of workers that share the cores.
        max_batch_size: requests that are predicted together.
        batch_timeout: seconds that a request waits for others.
    """

    def __init__(self, options: ModelOptions, *, workers: int, max_batch_size: int, batch_timeout: float) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=batch_timeout, api_path=PATH, loop=PatientLoop())
        self.options, self.workers = options, workers

    def setup(self, device: str) -> None:
        """Load the network in a worker."""
        ignore_signals(
            "SIGINT"
        )  # a terminal sends it to all processes; the server ends its workers after the last answer
        end_with_parent()
        keep_memory()
        os.environ[JOBS] = str(self.workers)  # divides the cores among the workers
        self.predictor = Predictor(self.options, torch.device(device))

    def decode_request(self, request: Any) -> list[DecodedPhoto] | RefusedError:
        """Decode the photos of a request, and find their faces."""
        return decode_or_refuse(self.predictor, request)

    def predict(self, x: list[list[DecodedPhoto] | RefusedError]) -> list[Answer | RefusedError]:
        """Predict a batch of requests."""
        return answer_all(self.predictor, x)

    def encode_response(self, output: Answer | RefusedError) -> Any:
        """Return plain values, or the error."""
        return output.model_dump() if isinstance(output, Answer) else output


def end_with_parent(also: int | None = None) -> None:
    """End this process when the one that started it ends, even if it was killed; and the process `also`."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        if also is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(also, signal.SIGTERM)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent").start()


class FaceServer(LitServer):  # type: ignore[misc]
    """LitServe's server with the routes of `serving.app`.

    Args:
        model: how a worker loads the network.
        options: batches, workers, address.
        info: description of the network.
        device: type of the devices: cpu, cuda or mps.
    """

    def __init__(self, model: ModelOptions, options: ServerOptions, info: Info, device: str) -> None:
        self.options = options
        self.stopped = threading.Event()
        api = FaceApi(
            model,
            workers=options.workers,
            max_batch_size=options.max_batch_size,
            batch_timeout=options.batch_timeout,
        )
        super().__init__(
            api,
            accelerator=device,
            devices=1 if device != "cuda" else "auto",
            workers_per_device=options.workers,
            timeout=options.timeout,
            restart_workers=True,
        )
        service = Service(
            answer=self.answer,
            info=info,
            ready=self.is_ready,
            limits=model.limits,
            api_key=options.api_key,
            max_waiting=options.max_waiting,
            timeout=options.timeout,
        )
        self.app: Any = create_app(service, self._lifespan)  # LitServe adds `response_queue_id`

    def _init_manager(self, num_api_servers: int) -> Any:
        manager = super()._init_manager(num_api_servers)
        # LitServe's event is in the manager's process, which its monitoring thread asks even after the shutdown.
        self._shutdown_event = self.stopped
        self._manager_pid: int = manager._process.pid
        return manager

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        end_with_parent(also=self._manager_pid)  # the manager of the queues does not look after its parent
        async with self.lifespan(app):
            print("ready", file=sys.stderr, flush=True)
            yield

    def is_ready(self) -> bool:
        """Return True if at least one worker has loaded its network."""
        return any(status == WorkerSetupStatus.READY for status in self.workers_setup_status.values())

    async def answer(self, uploads: list[Upload]) -> Answer:
        """Send the photos to a worker, and wait for its answer.

        Raises:
            RefusedError: the worker refused a photo, or died (status 503); or no answer came in time (status 504).
        """
        uid = uuid.uuid4().hex
        item = ResponseBufferItem(asyncio.Event())
        self.response_buffer[uid] = item
        request = (self.app.response_queue_id, uid, time.monotonic(), uploads)
        try:
            async with asyncio.timeout(self.options.timeout):
                await asyncio.to_thread(self.litapi_request_queues[PATH].put, request)
                await wait_for_answer(item)
        except TimeoutError:
            raise RefusedError(
                504,
                "no_answer",
                f"expected an answer within {self.options.timeout:g} s, found none; try again, or fewer photos",
            ) from None
        finally:
            self.response_buffer.pop(uid, None)
        content, status = item.response
        if isinstance(content, RefusedError):
            raise content
        if status != LitAPIStatus.OK:
            raise RefusedError(500, "internal", "the server failed; its log has the cause")
        return Answer.model_validate(content)


async def wait_for_answer(item: Any) -> None:
    """Wait for the answer to a request of LitServe. Raises RefusedError (status 503) if its worker died."""
    while not item.event.is_set():
        # read before the wait: an answer sent just before the worker's end still arrives
        alive = item.worker_id is None or psutil.pid_exists(item.worker_id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(item.event.wait(), POLL_SECONDS)
        if not alive and not item.event.is_set():
            raise RefusedError(503, "worker_died", "the process that held the request ended; try again in some seconds")


def check_port(host: str, port: int) -> None:
    """Check that the server can listen. Raises ServeError if the port is in use, or the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family=family) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
    except OSError as error:
        raise ServeError(f"cannot listen on {host} port {port} ({error.strerror}); set port to another") from None


def run_server(model: ModelOptions, options: ServerOptions, info: Info, device: str) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are answered before it returns.

    Raises:
        ServeError: the process for HTTP ended, or the workers could not start.
    """
    server = FaceServer(model, options, info, device)
    server.uvicorn_graceful_timeout = options.timeout
    with stopping_by_signals(server) as failed:
        try:
            server.run(
                host=options.host,
                port=options.port,
                num_api_servers=1,  # one process counts the waiting requests
                log_level="warning",
                generate_client_file=False,
                http="h11",  # limits the size of a header, which httptools does not
                server_header=False,
            )
        except RuntimeError as error:
            raise ServeError(f"the workers could not start ({error}); see the messages above") from error
        finally:
            for process in multiprocessing.active_children():  # of a start that was interrupted
                process.terminate()
    if failed():
        raise ServeError("the process for HTTP ended unexpectedly; see the messages above, and start the server again")


@contextlib.contextmanager
def stopping_by_signals(server: FaceServer) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and Ctrl-C, and the end of the HTTP process, drain the server in the block; a second signal kills it.

    LitServe drains when its shutdown event is set. A thread sets it, as a signal handler could find it locked by the
    code that it interrupts.

    Yields:
        A function that returns True if the HTTP process ended by itself.
    """
    owner, stop, state = os.getpid(), threading.Event(), {"failed": False}

    def handle(_: int, __: FrameType | None) -> None:
        if os.getpid() != owner:  # the HTTP process, after it has answered everything
            os._exit(0)
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    def watch() -> None:
        seen = False
        while not stop.wait(POLL_SECONDS / 2):
            alive = any(child.name == WEB_PROCESS for child in multiprocessing.active_children())
            if seen and not alive:
                state["failed"] = True
                break
            seen = seen or alive
        server.stopped.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    threading.Thread(target=watch, daemon=True, name="stop").start()

    def failed() -> bool:
        return state["failed"]

    try:
        yield failed
    finally:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)
