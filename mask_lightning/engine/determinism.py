"""How a device computes while something is trained: as fast as it can, or the same bits each time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from mask_lightning.errors import ConfigError, one_line

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # with it cuBLAS, too, computes the same bits each time
COMPILERS = ("torch._dynamo", "torch._inductor")  # whose errors are those of a compiled network


@contextmanager
def device_math(*, cuda: bool, deterministic: bool) -> Iterator[None]:
    """For the block: TF32 and cuDNN's fastest algorithms on CUDA, or deterministic algorithms wherever it computes.

    TF32 rounds the factors of a matrix product to ten bits, in the same way each time, so that both kinds use it. See
    PyTorch's notes on reproducibility. Afterwards torch is as it was before, but for cuBLAS's workspace.

    Args:
        cuda: whether the block computes on CUDA.
        deterministic: whether the same seed has to give the same bits; on a CPU it does anyway.

    Raises:
        ConfigError: `deterministic`, and torch cannot do some operation so; or a network cannot be compiled.
    """
    with ExitStack() as undo:
        if deterministic:
            undo.enter_context(_deterministic_algorithms())
        if cuda:
            undo.enter_context(_fast_cuda(benchmark=not torch.are_deterministic_algorithms_enabled()))
        try:
            yield
        except RuntimeError as error:
            if reason := _why_not(error):
                raise ConfigError(reason) from error
            raise


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _fast_cuda(*, benchmark: bool) -> Iterator[None]:
    # Always: torch looks at it once, at the first matrix product of the process, and a later block may need it.
    os.environ.setdefault(*WORKSPACE)
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, torch.get_float32_matmul_precision()
    cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


def _why_not(error: RuntimeError) -> str | None:
    """What a choice of the user's cannot do here, and what to do; None for other errors."""
    if operation := re.search(r"(\S+) does not have a deterministic implementation", str(error)):
        return f"torch cannot do {operation[1]} deterministically; set trainer.deterministic=false"
    if WORKSPACE[0] in str(error):
        return (
            f"this process has computed on the GPU without {'='.join(WORKSPACE)}, which trainer.deterministic=true "
            "needs; set that in the environment before Python starts, or set trainer.deterministic=false"
        )
    if type(error).__module__.startswith(COMPILERS):
        return f"torch cannot compile this network here ({one_line(str(error), most=300)}); set model.compile=false"
    return None
