"""The server's processes: batches, dead workers, signals, and errors before the start."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_requests import hostile_requests, status_of
from tiny_runs import settings_for

pytest.importorskip("litserve", reason="needs the extra `serve`")
pytest.importorskip("python_multipart", reason="needs the extra `serve`")
from litserve.loops.base import _SENTINEL_VALUE
from litserve.utils import LitAPIStatus, ResponseBufferItem

from mask_lightning.errors import ConfigError, ServeError
from mask_lightning.pipelines import serve as pipeline
from mask_lightning.serving.answers import ModelOptions, describe_model
from mask_lightning.serving.server import (
    FaceApi,
    FaceServer,
    PatientLoop,
    ServerOptions,
    check_port,
    wait_for_answer,
)
from mask_lightning.serving.uploads import RefusedError, Upload
from mask_lightning.settings.serve import ServeSettings

PIXEL = (  # a PNG of one pixel
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\xcf\xc0\0\0\3\1\1\0\xc9\xfe\x92"
    b"\xef\0\0\0\0IEND\xaeB`\x82"
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def make_api(**options: Any) -> FaceApi:
    api = FaceApi(
        ModelOptions(Path("x"), Path("y")), workers=1, **{"max_batch_size": 3, "batch_timeout": 0.05, **options}
    )
    api.request_timeout = 30
    return api


@pytest.mark.parametrize(
    ("waiting", "batch_timeout", "sizes"),
    [(5, 0.05, [3, 2]), (2, 0.05, [2]), (4, 0.0, [3, 1]), (0, 0.05, [0])],
)
def test_waiting_requests_are_batched(
    waiting: int, batch_timeout: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mask_lightning.serving.server.POLL_SECONDS", 0.01)
    requests: queue.Queue[Any] = queue.Queue()
    for i in range(waiting):
        requests.put((0, f"request {i}", time.monotonic(), [i]))
    api, loop = make_api(batch_timeout=batch_timeout), PatientLoop()
    batches = [loop.get_batch_requests(api, requests, None)[0] for _ in sizes]
    assert [len(batch) for batch in batches] == sizes
    assert [content for batch in batches for *_, content in batch] == [[i] for i in range(waiting)]


def test_a_request_that_waited_too_long_is_not_predicted() -> None:
    requests: queue.Queue[Any] = queue.Queue()
    requests.put((0, "late", time.monotonic() - 60, []))
    batch, late = PatientLoop().get_batch_requests(make_api(), requests, None)
    assert (batch, late) == ([], [(0, "late")])


def test_the_end_of_the_queue_ends_the_loop() -> None:
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(_SENTINEL_VALUE)
    PatientLoop()(make_api(), "cpu", 0, requests, None, {}, None)


def test_an_idle_worker_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """LitServe's own loop asks a thousand times a second, each time through another process."""
    asked = []

    class Empty:
        def get(self, timeout: float) -> None:
            asked.append(timeout)
            raise queue.Empty

    PatientLoop().get_batch_requests(make_api(), Empty(), None)
    assert asked == [1.0]


class Answering:
    """A queue that answers a request as a worker and LitServe do; None: never."""

    def __init__(self, server: FaceServer, response: Any) -> None:
        self.server, self.response, self.loop = server, response, asyncio.get_running_loop()

    def put(self, request: tuple[int, str, float, list[Upload]]) -> None:
        item = self.server.response_buffer[request[1]]
        if self.response is not None:
            item.response = self.response
            self.loop.call_soon_threadsafe(item.event.set)


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (({"photos": []}, LitAPIStatus.OK), None),
        ((RefusedError(422, "damaged_photo", "x"), LitAPIStatus.OK), 422),
        ((b"an error of the worker", LitAPIStatus.ERROR), 500),
        (None, 504),
    ],
)
def test_every_request_is_answered(response: Any, status: int | None, make_checkpoint: Any, tmp_path: Path) -> None:
    model = ModelOptions(make_checkpoint(), tmp_path, engine="torch")
    server = FaceServer(model, ServerOptions(timeout=0.2), describe_model(model, "cpu"), "cpu")
    server.app.response_queue_id = 0

    async def ask() -> Any:
        server.litapi_request_queues["/predict"] = Answering(server, response)
        return await server.answer([Upload("a", b"x")])

    if status is None:
        assert asyncio.run(ask()).photos == []
    else:
        with pytest.raises(RefusedError) as error:
            asyncio.run(ask())
        assert error.value.status == status
    assert server.response_buffer == {}


@pytest.mark.parametrize(
    ("alive", "answered", "status"),
    [(True, True, None), (False, True, None), (False, False, 503)],
    ids=["alive", "died after its answer was sent", "died"],
)
def test_a_request_does_not_wait_for_a_dead_worker(
    alive: bool, answered: bool, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mask_lightning.serving.server.POLL_SECONDS", 0.05)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    async def wait() -> None:
        item = ResponseBufferItem(asyncio.Event(), worker_id=os.getpid() if alive else ended.pid)
        if answered:
            asyncio.get_running_loop().call_later(0.02, item.event.set)
        await wait_for_answer(item)

    if status is None:
        asyncio.run(wait())
    else:
        with pytest.raises(RefusedError, match="try again") as error:
            asyncio.run(wait())
        assert error.value.status == status


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_worker_without_a_server_ends_quietly(error: type[Exception]) -> None:
    class Gone:
        def get(self, timeout: float) -> None:
            raise error

    with pytest.raises(SystemExit) as end:
        PatientLoop().get_batch_requests(make_api(), Gone(), None)
    assert end.value.code == 0


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1 port {port} .*set port to another"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline, "PACKAGES", ("litserve", "no_such_package"))
    with pytest.raises(ServeError, match=r"no_such_package not installed; pip install 'mask_lightning\[serve\]'"):
        pipeline.serve(settings_for("serve", ServeSettings, f"ckpt={tmp_path}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "name a trained run: ckpt="),
        (["ckpt=x", "host=example.org"], "host must be '127.0.0.1', '0.0.0.0' or '::'"),
        (["ckpt=x", "port=80"], "port must be greater than or equal to 1024"),
        (["ckpt=x", "max_photo_mb=50"], "max_photo_mb must be at most max_request_mb, got 50 and 48"),
        (["ckpt=x", "timeout=0.001"], "batch_timeout must be less than timeout"),
        (["ckpt=x", "workers=0"], "workers must be greater than or equal to 1"),
    ],
)
def test_wrong_options_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_for("serve", ServeSettings, *overrides)
    assert message in str(error.value)


def test_options_reach_the_processes(
    make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("mask_lightning.serving.server.run_server", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("mask_lightning.serving.server.check_port", lambda *_: None)
    monkeypatch.setattr(pipeline, "describe_in_process", describe_model)
    monkeypatch.setenv(pipeline.API_KEY, "secret")
    changed = {
        "host": "0.0.0.0",
        "port": 9000,
        "max_batch_size": 3,
        "batch_timeout": 0.2,
        "workers": 2,
        "timeout": 7.0,
        "max_waiting": 5,
        "max_faces": 4,
        "min_size": 11,
        "max_photos": 6,
        "max_photo_mb": 1.5,
        "max_request_mb": 2.5,
        "max_megapixels": 3.5,
    }
    typed = [f"{name}={value}" for name, value in changed.items()]
    folders = [f"ckpt={make_checkpoint()}", f"keep={tmp_path / 'keep'}", f"outputs={tmp_path / 'out'}"]
    others = ["accelerator=cpu", "engine=torch", "calibrated=false"]
    pipeline.serve(settings_for("serve", ServeSettings, *typed, *folders, *others))
    ((model, options, info, device),) = calls
    plain = {"host", "port", "max_batch_size", "batch_timeout", "workers", "timeout", "max_waiting"}
    assert {name: getattr(options, name) for name in plain} == {name: changed[name] for name in plain}
    assert (options.api_key, device, info.engine) == ("secret", "cpu", "torch")
    assert (model.max_faces, model.min_size, model.calibrated, model.engine) == (4, 11, False, "torch")
    assert vars(model.limits) == {"photos": 6, "photo_mb": 1.5, "request_mb": 2.5, "megapixels": 3.5}
    assert model.keep == tmp_path / "keep"
    assert model.keep.is_dir()
    assert model.cache.is_relative_to(tmp_path / "out")


@pytest.mark.parametrize(
    ("host", "keyed", "lines"), [("127.0.0.1", False, 2), ("0.0.0.0", False, 3), ("0.0.0.0", True, 2), ("::", False, 3)]
)
def test_a_server_for_everyone_says_so(
    host: str, keyed: bool, lines: int, make_checkpoint: Any, tmp_path: Path
) -> None:
    info = describe_model(ModelOptions(make_checkpoint(), tmp_path, engine="torch"), "cpu")
    text = pipeline.describe(info, host, 8000, keyed=keyed).splitlines()
    assert len(text) == lines
    assert "mask, gender, age" in text[0]
    assert (lines == 3) == (pipeline.API_KEY in text[-1])


def ask(port: int, path: str, content: bytes | None = None) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=content, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(port, "/health")[0] == 200
    return False


def children(pid: int, pattern: str = ".") -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", pattern], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@contextlib.contextmanager
def running(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "mask_lightning.serve",
        f"port={port}",
        "engine=torch",
        "accelerator=cpu",
        *options,
    ]
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=errors, stderr=errors, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            for pid in (*children(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes as Linux names them")
def test_a_server_answers_replaces_dead_workers_and_drains(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    port, folder = free_port(), tmp_path / "work"
    folder.mkdir()
    content = json.dumps({"photos": [base64.b64encode(PIXEL).decode()]}).encode()
    with running(folder, port, f"ckpt={make_checkpoint()}", "batch_timeout=1.5", "timeout=20") as server:
        wait_until(lambda: is_healthy(port) or server.poll() is not None)
        assert server.poll() is None, (folder / "errors.txt").read_text()
        assert ask(port, "/info")[1]["tasks"]["gender"] == ["male", "female"]
        status, first = ask(port, "/predict", content)
        assert (status, len(first["photos"])) == (200, 1)
        assert ask(port, "/predict", b'{"photos": ["AAAA"]}')[0] == 415

        (worker,) = children(server.pid, "spawn_main")
        lost: list[tuple[int, Any]] = []
        waiting = threading.Thread(target=lambda: lost.append(ask(port, "/predict", content)))
        waiting.start()
        time.sleep(0.7)  # the worker waits for a second request
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        waiting.join()
        assert lost[0][0] == 503
        assert time.monotonic() - killed < 15  # not after the timeout of 20 seconds
        wait_until(lambda: children(server.pid, "spawn_main") not in ([], [worker]))
        wait_until(lambda: is_healthy(port))
        assert ask(port, "/predict", content) == (200, first)

        answers: list[tuple[int, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port, "/predict", content)))
        asking.start()
        time.sleep(0.7)  # the worker waits for a second request
        below = children(server.pid)
        server.send_signal(signal.SIGTERM)
        asking.join()
        assert answers == [(200, first)]
        assert server.wait(timeout=30) == 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 10)
    assert "Traceback" not in (folder / "errors.txt").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["errors.txt"]  # no photo, no log, no client.py


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes as Linux names them")
def test_the_end_of_the_http_process_ends_the_server_and_a_killed_server_leaves_nothing(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    for kill_http in (True, False):
        port = free_port()
        with running(tmp_path, port, f"ckpt={make_checkpoint()}") as server:
            wait_until(lambda port=port: is_healthy(port))  # type: ignore[misc]
            below = children(server.pid)
            http = max(children(server.pid, "mask_lightning.serve"))  # the manager was forked before it
            os.kill(http if kill_http else server.pid, signal.SIGKILL)
            code = server.wait(timeout=40)
        assert code == (2 if kill_http else -signal.SIGKILL)
        wait_until(lambda below=below: not any(Path(f"/proc/{pid}").exists() for pid in below), 20)  # type: ignore[misc]
        if kill_http:
            assert "the process for HTTP ended unexpectedly" in (tmp_path / "errors.txt").read_text()


@pytest.mark.slow
def test_a_thousand_hostile_requests_are_refused_without_harm(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    port = free_port()
    with running(tmp_path, port, f"ckpt={make_checkpoint()}", "timeout=1") as server:
        wait_until(lambda: is_healthy(port))
        found = Counter((kind, status_of(port, request)) for kind, request in hostile_requests(1000))
        assert not [each for each in found if not (isinstance(each[1], int) and 400 <= each[1] < 500)], found
        assert is_healthy(port)
        assert server.poll() is None
    assert "Traceback" not in (tmp_path / "errors.txt").read_text()
