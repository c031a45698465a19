"""Fit with processes that torchrun has started, on one machine or on several.

Every process runs the same command. The process of rank 0 does all of it and alone writes files. The others wait for
its fits: through torchrun's key-value store they receive what to fit and the run folder to read, and at the end the
exit code of the command.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from itertools import count
from time import monotonic, sleep
from types import FrameType
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mask_lightning.errors import MaskLightningError, ProcessError, one_line
from mask_lightning.utils.launch import Launch, find_launch
from mask_lightning.utils.system import raise_on_sigterm

PATIENCE = 60.0  # seconds without a sign of life, or to end after a fit
BEAT = 0.5  # seconds between two signs of life
LONG = timedelta(days=7)  # rank 0 prepares photos, or fits, as long as it takes


class Channel:
    """Messages between the process of rank 0 and the others, in torchrun's key-value store.

    Attributes:
        number: number of the current fit, in the process of rank 0 of the next one.
        port: port at which the processes of the current fit meet.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch, self.number, self.port = launch, 0, 0
        store, _, _ = next(rendezvous("env://", launch.rank, launch.processes, timeout=LONG))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store: Store = PrefixStore(f"mask_lightning/{attempt}", store)

    def send(self, key: str, message: Any = None) -> None:
        """Set a key, once."""
        self.store.set(key, json.dumps(message))

    def receive(self, key: str) -> Any:
        """Wait for a key, and return its message."""
        return json.loads(self.store.get(key))

    def has(self, *keys: str) -> bool:
        """Return True if all keys are set."""
        return bool(self.store.check(list(keys)))

    def beat(self, rank: int, *, by: int = 1) -> int:
        """Count signs of life of a process, and return their number."""
        return self.store.add(f"alive/{rank}", by)

    def find_error(self) -> ProcessError | None:
        """Return the error of another process in the current fit, if any."""
        key = f"error/{self.number}"
        return ProcessError(self.receive(key)) if self.has(key) else None

    def wait_for_others(self, key: str, *, seconds: float = float("inf")) -> None:
        """Wait until each other process has set `<key>/<fit>/<rank>`.

        Args:
            key: what they set.
            seconds: limit, beside that for a process without a sign of life.

        Raises:
            ProcessError: a process has failed, shows no sign of life, or needs too long.
        """
        end, counts = monotonic() + seconds, dict.fromkeys(range(1, self.launch.processes), (-1, monotonic()))
        while missing := [rank for rank in counts if not self.has(f"{key}/{self.number}/{rank}")]:
            error = self.find_error()
            if error is not None:
                raise error
            for rank in missing:
                beats = self.beat(rank, by=0)
                if beats != counts[rank][0]:
                    counts[rank] = beats, monotonic()
                if monotonic() > min(counts[rank][1] + PATIENCE, end):
                    raise ProcessError(
                        f"process {rank} of the run does not answer; look at the output of torchrun on machine "
                        f"{rank // self.launch.per_node}, then continue with resume=RUN"
                    )
            sleep(0.05)

    def find_silent(self) -> list[int]:
        """Return the other processes that give no sign of life within two seconds."""
        ranks = range(1, self.launch.processes)
        before = [self.beat(rank, by=0) for rank in ranks]
        sleep(4 * BEAT)
        return [rank for rank, beats in zip(ranks, before, strict=True) if self.beat(rank, by=0) == beats]


@cache
def _channel(launch: Launch) -> Channel:
    """Return the channel of this process; MASTER_PORT must still be that of torchrun when it is opened."""
    return Channel(launch)


@contextmanager
def meeting(launch: Launch, task: Mapping[str, Any]) -> Iterator[int]:
    """Fit in the block together with the other processes of torchrun.

    Args:
        launch: this process.
        task: plain values for `mask_lightning.pipelines.ddp_process`, used by the process of rank 0.

    Yields:
        Port at the address of rank 0 at which the processes meet.

    Raises:
        ProcessError: another process has failed or ended.
    """
    channel = _channel(launch)
    if launch.rank:
        channel.send(f"ready/{channel.number}/{launch.rank}")
        yield channel.port
        return
    port = find_free_network_port()
    channel.send(f"message/{channel.number}", {"port": port, "task": dict(task)})
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is _leave_it_to_the_record:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with raise_on_sigterm():
            channel.wait_for_others("ready")
        with _recording_despite_sigterm():
            yield port
        channel.wait_for_others("done", seconds=PATIENCE)
    except RuntimeError as error:  # perhaps a lost connection to a process that has ended
        raise _cause(channel, error) from error
    finally:
        channel.send(f"over/{channel.number}")
        channel.number += 1


def _cause(channel: Channel, error: RuntimeError) -> Exception:
    """Return the failure of another process behind a RuntimeError of this one, or the RuntimeError."""
    silent = channel.find_silent()
    found = channel.find_error()
    if found is not None or not silent:
        return found or error
    return ProcessError(
        f"process {silent[0]} of the run ended ({one_line(str(error), most=200)}); continue with resume=RUN"
    )


def follow(fit: Callable[[Mapping[str, Any]], None]) -> int:
    """Take part in the fits of rank 0 until its command ends, and return its exit code.

    Args:
        fit: receives what rank 0 gave to `meeting`; calls `meeting` itself.
    """
    launch = find_launch()
    assert launch is not None
    channel, own = _channel(launch), Channel(launch)
    for channel.number in count():
        message = channel.receive(f"message/{channel.number}")
        if "exit" in message:
            channel.send(f"left/{launch.rank}")
            return int(message["exit"])
        channel.port, done = message["port"], threading.Event()
        threading.Thread(target=_stay_in_touch, args=(own, channel.number, done), daemon=True).start()
        try:
            fit(message["task"])
        except (KeyboardInterrupt, SystemExit):
            pass  # a signal; rank 0 records it
        except Exception as error:
            channel.send(f"error/{channel.number}", _describe(error, launch))
            if not isinstance(error, MaskLightningError):
                traceback.print_exc()
        end_group()
        channel.send(f"done/{channel.number}/{launch.rank}")
        done.set()
    raise AssertionError


def _describe(error: Exception, launch: Launch) -> str:
    where = f" on {socket.gethostname()}" if launch.nodes > 1 else ""
    shared = "; all machines need the same photos and outputs at the same paths" if launch.node else ""
    return f"process {launch.rank}{where} of the run failed ({one_line(f'{type(error).__name__}: {error}')}){shared}"


def _stay_in_touch(channel: Channel, number: int, done: threading.Event) -> None:
    """Give signs of life during a fit, and end this process if the fit is over and it cannot leave it."""
    try:
        while not channel.has(f"over/{number}"):
            channel.beat(channel.launch.rank)
            if done.wait(BEAT):
                return
    except Exception:  # torchrun has ended on the machine of rank 0
        os._exit(1)
    if not done.wait(PATIENCE):
        os._exit(1)


def dismiss(code: int) -> None:
    """Let the other processes end with the exit code of the command; they have 5 seconds to learn it."""
    launch = find_launch()
    assert launch is not None
    with suppress(Exception):  # torchrun has ended
        channel = _channel(launch)
        channel.send(f"message/{channel.number}", {"exit": code})
        keys: Sequence[str] = [f"left/{rank}" for rank in range(1, launch.processes)]
        end = monotonic() + 5
        while not channel.has(*keys) and monotonic() < end:
            sleep(0.05)


def end_group() -> None:
    """Leave the process group of a fit; otherwise the next metric to be computed would wait for the others."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _recording_despite_sigterm() -> Iterator[None]:
    """Keep SIGTERM from ending this process after an error in the block, until the next fit.

    When a process dies, torchrun sends SIGTERM to the others, while rank 0 records what happened. During a fit,
    `callbacks.interruption` handles the signal.
    """
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave_it_to_the_record)
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave_it_to_the_record(_: int, __: FrameType | None) -> None:
    """Do nothing: torchrun sends SIGKILL 30 seconds later."""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
