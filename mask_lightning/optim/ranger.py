"""Ranger (RAdam with Lookahead), made fit for Lightning: the closure runs, and all tensors move at once."""

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
"""Elements that move together on a CPU, so that they stay in its cache from one operation to the next."""


def rectify(step: int, betas: tuple[float, float], threshold: float) -> tuple[float, bool]:
    """RAdam's step size at lr 1, with the debiasing of both moments folded in.

    Args:
        step: updates so far, this one included (1 at the first).
        betas: decay of the first and of the second moment, each in [0, 1).
        threshold: length of the approximated moving average above which its variance is trusted.

    Returns:
        the factor of the lr, and whether to divide by the root of the second moment.

    Paper: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, arXiv:1908.03265.
    """
    beta1, beta2 = betas
    debias1, decay2 = 1 - beta1**step, beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * decay2 / (1 - decay2)
    if length <= max(threshold, 4):  # the rectification is real only above 4
        return 1 / debias1, False
    rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return math.sqrt(rectification * (1 - decay2)) / debias1, True


class Ranger(torch_optimizer.Ranger):  # type: ignore[misc]  # pytorch_ranger carries no types
    """`torch_optimizer.Ranger` with the same arguments, state and trajectory, where that is right.

    What differs: a closure is called, under grad, and its loss returned, as Lightning's precision plugins
    expect; each param group follows its own betas, `alpha` and `N_sma_threshhold`, where in the parent one
    group's reach the others; tensors of a group with equally many updates behind them move together, by
    `torch._foreach_*`; float64 is computed in float64; the float32 moments of low-precision params survive
    a resume.

    A param without grad is left alone: no update, no decay, no pull to its slow weights. The slow weights
    are those before a param's first update, so a group that is thawed later starts its own count of `k`.

    Args:
        params: tensors, or dicts with "params" and any of the options below.
        lr: learning rate, above 0 (a group's own may be 0).
        alpha: share of the way that the slow weights go to the fast ones, in [0, 1].
        k: steps between two such moves.
        N_sma_threshhold: see `rectify`.
        betas: decay of the first and of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled; each step multiplies the weights by 1 - lr * weight_decay.

    Raises:
        RuntimeError: a grad is sparse.

    Paper: Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, arXiv:1907.08610.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Update every param that has a grad; returns what `closure` returns, or None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for params in self._alike(group):
                for chunk in _chunks(params):
                    self._update(group, chunk)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict` exactly, also where torch would cast the moments to low precision."""
        super().load_state_dict(state_dict)
        saved = [state_dict["state"].get(i, {}) for g in state_dict["param_groups"] for i in g["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for param, old in zip(params, saved, strict=True):
            for key in ("exp_avg", "exp_avg_sq"):
                if key in old:
                    self.state[param][key] = old[key].to(param.device, _compute_dtype(param))

    def _alike(self, group: Group) -> list[list[Tensor]]:
        """The group's params that have a grad, in lists of equal age, device and dtypes."""
        lists: defaultdict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("Ranger expects dense grads, found a sparse one; use sparse=False or SparseAdam")
            state = self.state[param] or self._start(param)
            lists[state["step"], param.device, param.dtype, param.grad.dtype].append(param)
        return list(lists.values())

    def _start(self, param: Tensor) -> dict[str, Any]:
        moment = torch.zeros_like(param, dtype=_compute_dtype(param))
        state: dict[str, Any] = self.state[param]
        state.update(step=0, exp_avg=moment, exp_avg_sq=moment.clone(), slow_buffer=param.detach().clone())
        return state

    def _update(self, group: Group, params: list[Tensor]) -> None:
        states = [self.state[param] for param in params]
        for state in states:
            state["step"] += 1
        step = states[0]["step"]
        weights = _computable(params)
        self._radam(group, step, weights, _computable([p.grad for p in params if p.grad is not None]), states)
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
    """All params at once on an accelerator, where launches cost; at most CPU_CHUNK elements on a CPU."""
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


def _computable(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors themselves in float32 or float64, float32 copies of lower precisions."""
    if tensors[0].dtype in (torch.float32, torch.float64):
        return tensors
    copies = [torch.empty_like(tensor, dtype=torch.float32) for tensor in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies
