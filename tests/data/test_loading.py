"""Memory, signals and errors of loader workers."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from multiprocessing import resource_sharer
from pathlib import Path
from time import sleep

import pytest
from joblib.externals.loky import ProcessPoolExecutor
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mask_lightning.data import loading
from mask_lightning.data.loading import LeanLoader, leave_signals_to_the_trainer, worker_errors_in_one_line
from mask_lightning.errors import WorkerError
from mask_lightning.utils.system import keep_memory, trim_memory


@pytest.mark.parametrize(
    ("workers", "persistent", "trims"),
    [(0, False, [0, 0]), (1, False, [1, 2]), (1, True, [1, 1])],
)
def test_memory_is_trimmed_before_each_fork(
    monkeypatch: pytest.MonkeyPatch, workers: int, persistent: bool, trims: list[int]
) -> None:
    calls = []
    monkeypatch.setattr(loading, "trim_memory", lambda: calls.append("trim"))
    loader = LeanLoader(range(3), num_workers=workers, persistent_workers=persistent, batch_size=None)
    assert [(list(loader), len(calls)) for _ in range(2)] == [([0, 1, 2], count) for count in trims]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_workers_start_in_a_job_of_joblib() -> None:
    """A job runs in a process of loky, whose start method DataLoader cannot use."""

    def load() -> tuple[str, list[int]]:
        import multiprocessing

        return multiprocessing.get_start_method(), [int(i) for i in LeanLoader(range(4), num_workers=1)]

    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(load).result() == ("loky", [0, 1, 2, 3])


def test_trimming_returns_kept_memory() -> None:
    keep_memory()
    blocks = [b"1" * 2**22 for _ in range(32)]  # 128 MiB
    end = b"2" * 2**10  # stays at the heap's end, so that only free memory inside the heap is trimmed
    del blocks
    before = resident()
    trim_memory()
    assert end
    assert before - resident() > 100


def resident() -> float:
    """Memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


class Deadly(Dataset[int]):
    """Kill the process that requests item 2."""

    def __init__(self, how: int) -> None:
        self.how = how

    def __len__(self) -> int:
        return 4

    def __getitem__(self, item: int) -> int:
        if item == 2:
            os.kill(os.getpid(), self.how)
            sleep(60)
        return item


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_killed_worker_raises_one_line(how: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))  # torch: 5 s
    loader = LeanLoader(Deadly(how), num_workers=1, batch_size=None)
    message = r"^a process that decodes photos [^\n]+; set num_workers to fewer[^\n]+$"
    with pytest.raises(WorkerError, match=message), worker_errors_in_one_line():
        list(loader)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell who has sent a signal")
def test_a_worker_ignores_signals_to_the_job_and_obeys_its_trainer() -> None:
    init = {"worker_init_fn": leave_signals_to_the_trainer}
    batches = iter(LeanLoader(range(100), num_workers=1, batch_size=None, **init))
    next(batches)
    (worker,) = batches._workers
    for name in ("TERM", "INT", "USR1", "USR2"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert list(batches) == list(range(1, 100))
    hangs = iter(LeanLoader(Deadly(signal.SIGUSR1), num_workers=1, batch_size=None, **init))
    next(hangs)
    (worker,) = hangs._workers
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def test_a_worker_killed_before_its_batch_is_fetched_raises_one_line(tmp_path: Path) -> None:
    """A worker killed in between leaves an address where nobody answers."""
    gone = resource_sharer.DupFd(0)
    gone._id = (str(tmp_path / "nobody"), 0)  # type: ignore[attr-defined]
    with pytest.raises(WorkerError, match="exited unexpectedly"), worker_errors_in_one_line():
        gone.detach()


@pytest.mark.parametrize("error", [RuntimeError("of course"), OSError(28, "No space left on device"), EOFError()])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, worker_errors_in_one_line():
        raise error
    assert caught.value is error
