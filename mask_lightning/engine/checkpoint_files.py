"""Checkpoint files: write them atomically, read them without executing code, and reduce them to the weights."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from mask_lightning.callbacks.checkpoints import RECORD
from mask_lightning.errors import CheckpointError, RunFolderError
from mask_lightning.utils.files import remove_temporary_files, write_atomically

# Keys that `load_from_checkpoint` and prediction read, the step, and the score.
WEIGHTS_KEYS = (
    *("pytorch-lightning_version", "epoch", "global_step", "state_dict", "hparams_name", "hyper_parameters"),
    RECORD,
)


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoint IO of our trainers: a file is replaced as a whole, and never executes code when read.

    Lightning's own IO writes a temporary file to /tmp and moves it. Across disks a move is a copy over the old
    checkpoint, so a full disk would leave neither.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace the file at `path` once the new one is complete.

        Raises:
            RunFolderError: the file cannot be written.
        """
        path = Path(path)
        try:
            remove_temporary_files(path)
            # Serialize in memory first: torch's own writer reports a full disk as an internal error.
            buffer = BytesIO()
            torch.save(checkpoint, buffer)
            write_atomically(path, buffer.getbuffer())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {path} ({error.strerror}); fix that and resume: the previous checkpoint is intact"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the file as `read_checkpoint` does; `weights_only=False` is ignored, as it would execute code."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU without executing any code in it.

    Returns:
        The content; {} if the file contains something else than a mapping.

    Raises:
        CheckpointError: the file cannot be read, or contains more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for damaged files torch raises anything from EOFError to IndexError
        raise CheckpointError(
            f"cannot read a checkpoint in {path} ({first_sentence(error)}); it is truncated, or not one of ours"
        ) from error
    return content if isinstance(content, dict) else {}


def keep_weights(path: Path, *, half: bool = False) -> None:
    """Reduce a checkpoint to what prediction needs: drop optimizer and callbacks; keep the average, if there is one.

    The file is replaced atomically; repeating the call changes nothing.

    Args:
        path: checkpoint file.
        half: store the large matrices and kernels as float16, see `is_halved`. They are loaded into a float32 network,
            which still computes in float32.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    kept = {name: content[name] for name in WEIGHTS_KEYS if name in content}
    if half:
        state = content["state_dict"]
        kept["state_dict"] = {name: tensor.half() if is_halved(tensor) else tensor for name, tensor in state.items()}
    buffer = BytesIO()
    torch.save(kept, buffer)
    write_atomically(path, buffer.getvalue())


def is_halved(tensor: Tensor) -> bool:
    """Return True for float32 matrices and kernels whose values fit float16. Others stay exact.

    Example:
        >>> is_halved(torch.ones(2, 2)), is_halved(torch.ones(2)), is_halved(torch.full((2, 2), 1e6))
        (True, False, False)
    """
    if tensor.dim() < 2 or tensor.dtype != torch.float32:
        return False
    return tensor.is_meta or bool(tensor.abs().max() <= torch.finfo(torch.float16).max)


def first_sentence(error: Exception) -> str:
    """Shorten an error to its type and first sentence: torch's messages have many lines."""
    text = str(error).strip().split("\n")[0].split(". ")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
