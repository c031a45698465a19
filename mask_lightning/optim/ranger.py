"""Ranger (RAdam with Lookahead) for Lightning: it calls the closure, and updates many tensors at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch_optimizer
from torch import Tensor

Loss = TypeVar("Loss")
Group = dict[str, Any]

CPU_CHUNK = 2**18
"""Elements that are updated together on a CPU, so that they stay in its cache from one operation to the next."""


def rectify(step: int, betas: tuple[float, float], threshold: float) -> tuple[float, bool]:
    """Return RAdam's step size for lr 1, bias correction of both moments included.

    Source: Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265.

    Args:
        step: updates so far, this one included (1 at the first).
        betas: decay of the first and of the second moment, each in [0, 1).
        threshold: length of the approximated moving average above which the second moment is used.

    Returns:
        the factor of the lr, and True if the step is divided by the root of the second moment.

    Example:
        >>> rectify(1, (0.5, 0.999), threshold=5)
        (2.0, False)
    """
    beta1, beta2 = betas
    debias1, decay2 = 1 - beta1**step, beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * decay2 / (1 - decay2)
    if length <= max(threshold, 4):  # the rectification is real only above 4
        return 1 / debias1, False
    rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return math.sqrt(rectification * (1 - decay2)) / debias1, True


class Ranger(torch_optimizer.Ranger):  # type: ignore[misc]  # pytorch_ranger has no type hints
    """RAdam with Lookahead, with the arguments, state and results of `torch_optimizer.Ranger`.

    It differs from the parent class where that is wrong or slow:

    * `step` calls the closure, with gradients enabled, and returns its loss, as Lightning's precision plugins expect.
    * Each param group uses its own betas, `alpha` and `N_sma_threshhold`; in the parent they affect other groups.
    * Tensors of a group with equally many updates are updated together by `torch._foreach_*`.
    * float64 parameters are computed in float64.
    * Moments of low-precision parameters stay float32 when a run is resumed.

    A parameter without gradient is skipped: no update, no decay, no Lookahead. Its slow weights are copied before its
    first update, so a layer group that is unfrozen later starts its own count of `k`.

    Sources: Liu et al. 2020, "On the variance of the adaptive learning rate and beyond" (RAdam), arXiv:1908.03265;
    Zhang et al. 2019, "Lookahead optimizer: k steps forward, 1 step back", arXiv:1907.08610; their combination is
    Wright's, https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer.

    Args:
        params: tensors, or dicts with "params" and any of the options below.
        lr: learning rate, above 0 (that of a group may be 0).
        alpha: Lookahead's interpolation: how far the slow weights move towards the fast ones, 0 to 1.
        k: steps between two Lookahead updates.
        N_sma_threshhold: see `rectify`.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decoupled; each step multiplies the weights by 1 - lr * weight_decay.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> param = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
        >>> optimizer = Ranger([param], lr=0.1)
        >>> for _ in range(10):
        ...     optimizer.zero_grad()
        ...     param.square().sum().backward()
        ...     _ = optimizer.step()
        >>> bool(param.abs().max() < 1)
        True
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients; called first.

        Returns:
            what `closure` returns, None without one.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for params in self._split_by_step(group):
                for chunk in _chunks(params):
                    self._update(group, chunk)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`. Moments keep their precision; torch would cast them to that of the parameter."""
        super().load_state_dict(state_dict)
        saved = [state_dict["state"].get(i, {}) for g in state_dict["param_groups"] for i in g["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for param, old in zip(params, saved, strict=True):
            for key in ("exp_avg", "exp_avg_sq"):
                if key in old:
                    self.state[param][key] = old[key].to(param.device, _compute_dtype(param))

    def _split_by_step(self, group: Group) -> list[list[Tensor]]:
        """Return the group's parameters with gradients, in lists of equal step count, device and dtypes."""
        lists: defaultdict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("Ranger expects dense grads, found a sparse one; use sparse=False or SparseAdam")
            state = self.state[param] or self._init_state(param)
            lists[state["step"], param.device, param.dtype, param.grad.dtype].append(param)
        return list(lists.values())

    def _init_state(self, param: Tensor) -> dict[str, Any]:
        moment = torch.zeros_like(param, dtype=_compute_dtype(param))
        state: dict[str, Any] = self.state[param]
        state.update(step=0, exp_avg=moment, exp_avg_sq=moment.clone(), slow_buffer=param.detach().clone())
        return state

    def _update(self, group: Group, params: list[Tensor]) -> None:
        states = [self.state[param] for param in params]
        for state in states:
            state["step"] += 1
        step = states[0]["step"]
        weights = _to_compute_dtype(params)
        self._radam(group, step, weights, _to_compute_dtype([p.grad for p in params if p.grad is not None]), states)
        if weights is not params:
            torch._foreach_copy_(params, weights)
        if step % group["k"] == 0:
            slow = [state["slow_buffer"] for state in states]
            torch._foreach_lerp_(slow, params, group["alpha"])
            torch._foreach_copy_(params, slow)

    @staticmethod
    def _radam(
        group: Group, step: int, weights: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]]
    ) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        if group["weight_decay"] != 0:
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        size, adaptive = rectify(step, (beta1, beta2), group["N_sma_threshhold"])
        if not adaptive:
            torch._foreach_add_(weights, means, alpha=-lr * size)
            return
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(weights, means, roots, -lr * size)


def _chunks(params: list[Tensor]) -> list[list[Tensor]]:
    """Split into chunks of at most CPU_CHUNK elements on a CPU; one chunk on a GPU, to launch fewer kernels."""
    if params[0].device.type != "cpu":
        return [params]
    chunks: list[list[Tensor]] = [[]]
    size = 0
    for param in params:
        size += param.numel()
        if chunks[-1] and size > CPU_CHUNK:
            chunks.append([])
            size = param.numel()
        chunks[-1].append(param)
    return chunks


def _compute_dtype(param: Tensor) -> torch.dtype:
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def _to_compute_dtype(tensors: list[Tensor]) -> list[Tensor]:
    """Return float32 copies of tensors in lower precision; float32 and float64 tensors are returned as they are."""
    if tensors[0].dtype in (torch.float32, torch.float64):
        return tensors
    copies = [torch.empty_like(tensor, dtype=torch.float32) for tensor in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies
