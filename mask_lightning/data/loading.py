"""Dataloaders whose worker processes cost little memory, and say in one line what ended them."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from mask_lightning.errors import PhotoError, WorkerError
from mask_lightning.utils.system import ignore_signals, trim_memory

T = TypeVar("T", covariant=True)


class LeanLoader(DataLoader[T]):
    """A DataLoader that hands free memory back before its workers are forked.

    A fork shares the pages of the process until either writes to them. What a training step has freed is soon
    written again, so that each worker would come to hold a copy of it: gigabytes, of which it uses nothing.
    """

    _has_forked = False

    def __iter__(self) -> Any:
        """Workers that persist are forked once."""
        if self.num_workers and not (self.persistent_workers and self._has_forked):
            trim_memory()
            self._has_forked = True
        return super().__iter__()


def leave_signals_to_the_trainer(_: int) -> None:
    """A `worker_init_fn`: a terminal and a cluster signal all processes of a job; the trainer decides then.

    A worker that has not ended by itself is ended by SIGTERM, too; that one comes from the trainer, or from someone who
    finds it after the trainer's end. On Linux, where workers are forked; elsewhere every SIGTERM ends one.
    """
    ignore_signals("SIGINT", "SIGUSR1", "SIGUSR2")
    trainer = multiprocessing.parent_process()
    if trainer is not None and hasattr(signal, "sigwaitinfo"):  # a handler of Python's is not told who the sender is
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_told_by, args=[trainer], daemon=True).start()


def _end_when_told_by(trainer: BaseProcess) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != trainer.pid and trainer.is_alive():
        pass
    os._exit(0)


@contextmanager
def worker_errors_in_one_line() -> Iterator[None]:
    """Around whatever reads from a loader.

    Raises:
        PhotoError: a photo cannot be decoded; a worker process puts its traceback before the message.
        WorkerError: a worker was killed, mostly by the system for want of memory.
    """
    try:
        yield
    except PhotoError as error:
        raise PhotoError(str(error).strip().rsplit("PhotoError: ", 1)[-1]) from error
    except (RuntimeError, OSError, EOFError) as error:
        end = _end_of_worker(error)
        if end is None:
            raise
        raise WorkerError(
            f"a process that decodes photos {end}, most likely for want of memory; "
            "set num_workers to fewer (0: decode in this process)"
        ) from error


def _end_of_worker(error: Exception) -> str | None:
    """How a worker ended, if that is what the error tells: as torch saw it, or as a batch that could not be fetched."""
    told = re.search(r"DataLoader worker \(pid.*?\) (is killed by signal: [\w ]+|exited unexpectedly)", str(error))
    if told is not None:
        return told[1]
    places = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    is_fetching = any(place.endswith("resource_sharer.py") for place in places)
    return "exited unexpectedly" if is_fetching else None
