from __future__ import annotations

import copy
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
import torch_optimizer
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from mask_lightning.optim.phases import PhasedLR, PhaseSchedule
from mask_lightning.optim.ranger import Ranger, rectify
from mask_lightning.optim.schedules import one_cycle

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())
SHAPES = ((3, 4), (4,), (2, 3, 1, 1))
# raised inside Lightning with new versions of torch
lightnings_warning = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
parents_warning = pytest.mark.filterwarnings("ignore:.*This overload of add:UserWarning")


def make_params(shapes: tuple[tuple[int, ...], ...] = SHAPES, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_grads(params: list[nn.Parameter], step: int) -> None:
    for index, param in enumerate(params):
        generator = torch.Generator().manual_seed(1000 * step + index)
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        give_grads(params, step)
        optimizer.step()


def flat(params: list[nn.Parameter]) -> Tensor:
    return torch.cat([param.detach().flatten() for param in params])


# ---- the trajectory


@parents_warning
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.02, "weight_decay": 0.1},
        {"betas": (0.9, 0.99), "eps": 1e-8, "k": 3, "alpha": 0.8},
        {"N_sma_threshhold": 4, "betas": (0.9, 0.9)},
        {"betas": (0.0, 0.5)},
    ],
)
def test_same_trajectory_and_state_as_the_parent(options: dict[str, Any]) -> None:
    ours, theirs = make_params(), make_params()
    optimizer = Ranger(ours, **{"lr": 0.01, **options})
    parent = torch_optimizer.Ranger(theirs, **{"lr": 0.01, **options})
    run(optimizer, ours, range(25))
    run(parent, theirs, range(25))
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(optimizer.state_dict(), parent.state_dict(), rtol=1e-5, atol=1e-6)


@parents_warning
def test_continues_from_a_state_of_the_parent() -> None:
    ours, theirs = make_params(), make_params()
    parent = torch_optimizer.Ranger(theirs, lr=0.01)
    run(parent, theirs, range(8))
    optimizer = Ranger(ours, lr=0.5)
    optimizer.load_state_dict(copy.deepcopy(parent.state_dict()))
    with torch.no_grad():
        for our, their in zip(ours, theirs, strict=True):
            our.copy_(their)
    run(optimizer, ours, range(8, 16))
    run(parent, theirs, range(8, 16))
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", REFERENCE["ranger"])
def test_same_trajectory_as_fastai(case: dict[str, Any]) -> None:
    param = nn.Parameter(torch.tensor(case["start"]))
    names = ("lr", "weight_decay", "betas", "eps", "k", "alpha")
    optimizer = Ranger([param], **{name: case[name] for name in names})
    for grad, want in zip(case["grads"], case["weights"], strict=True):
        param.grad = torch.tensor(grad)
        optimizer.step()
        torch.testing.assert_close(param.detach(), torch.tensor(want), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("step", "betas", "threshold", "want"),
    [
        (1, (0.9, 0.999), 5, (10.0, False)),
        (1, (0.0, 0.999), 5, (1.0, False)),
        (10**5, (0.9, 0.999), 5, (1.0, True)),
        (10**5, (0.9, 0.5), 0, (1.0, False)),  # too short an average for a reliable variance
        (5, (0.0, 0.999), 5, (1.0, False)),
        (5, (0.0, 0.999), 4, (1.222885e-3, True)),
    ],
)
def test_rectify(step: int, betas: tuple[float, float], threshold: float, want: tuple[float, bool]) -> None:
    size, adaptive = rectify(step, betas, threshold)
    assert size == pytest.approx(want[0], rel=1e-6)
    assert adaptive is want[1]


# ---- groups


def two_groups(make: Callable[..., torch.optim.Optimizer]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train two groups with one optimizer, and each with its own; returns both results of each group."""
    slow = {"lr": 0.01, "betas": (0.5, 0.9), "k": 2, "alpha": 0.2, "weight_decay": 0.1, "N_sma_threshhold": 6}
    fast = {"lr": 0.03, "betas": (0.95, 0.999), "k": 5, "alpha": 0.7, "eps": 1e-3}
    together, alone = (make_params(seed=1), make_params(seed=2)), (make_params(seed=1), make_params(seed=2))
    optimizer = make([{"params": together[0], **slow}, {"params": together[1], **fast}])
    for step in range(12):
        for params in together:
            give_grads(params, step)
        optimizer.step()
    for params, options in zip(alone, (slow, fast), strict=True):
        run(make(params, **options), params, range(12))
    return flat(together[0]), flat(alone[0]), flat(together[1]), flat(alone[1])


def test_a_group_trains_as_if_alone() -> None:
    first, first_alone, second, second_alone = two_groups(Ranger)
    assert torch.equal(first, first_alone)
    assert torch.equal(second, second_alone)


@parents_warning
def test_groups_of_the_parent_affect_each_other() -> None:
    *_, second, second_alone = two_groups(torch_optimizer.Ranger)
    assert not torch.allclose(second, second_alone, rtol=1e-3)


def test_a_group_unfrozen_later_starts_its_own_count() -> None:
    params, late = make_params(), make_params(seed=5)
    before = flat(late)
    optimizer = Ranger(params + late, lr=0.05, weight_decay=0.5, k=3)
    run(optimizer, params, range(4))
    assert torch.equal(flat(late), before)  # no update, no decay
    assert all(late_param not in optimizer.state for late_param in late)
    run(optimizer, params + late, range(4, 8))

    alone = make_params(seed=5)
    lonely = Ranger(alone, lr=0.05, weight_decay=0.5, k=3)
    for step in range(4, 8):
        give_grads(make_params() + alone, step)
        for index, param in enumerate(alone, start=len(params)):
            generator = torch.Generator().manual_seed(1000 * step + index)
            param.grad = torch.randn(param.shape, generator=generator)
        lonely.step()
    assert torch.equal(flat(late), flat(alone))


def test_a_group_frozen_again_has_no_lookahead() -> None:
    params = make_params()
    optimizer = Ranger(params, lr=0.05, k=3)
    run(optimizer, params, range(2))
    before = flat(params)
    optimizer.zero_grad()
    for _ in range(3):
        optimizer.step()
    assert torch.equal(flat(params), before)


def test_lookahead_starts_from_the_weights_before_the_first_step() -> None:
    param = nn.Parameter(torch.zeros(1))
    optimizer = Ranger([param], lr=1.0, k=2, alpha=0.5, betas=(0.0, 0.999))
    for _ in range(2):
        param.grad = torch.ones(1)
        optimizer.step()
    assert param.item() == pytest.approx(-1.0)  # half of two steps of length 1


# ---- closures and gradients


def test_the_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    param = nn.Parameter(torch.tensor([3.0]))
    optimizer = Ranger([param], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = param.square().sum()
        torch.autograd.backward(loss)
        return loss

    assert optimizer.step(closure) == torch.tensor(9.0)
    assert param.item() < 3.0
    assert optimizer.step() is None


@parents_warning
def test_the_parent_ignores_the_closure() -> None:
    called = []
    torch_optimizer.Ranger(make_params()).step(lambda: called.append(1))
    assert called == []


def test_a_sparse_grad_is_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    torch.autograd.backward(embedding(torch.tensor([1])).sum())
    with pytest.raises(RuntimeError, match="expects dense grads"):
        Ranger(embedding.parameters()).step()


def test_a_grad_scaler_skips_infinite_grads() -> None:
    param = nn.Parameter(torch.ones(2))
    optimizer, scaler = Ranger([param], lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0)
    torch.autograd.backward(scaler.scale(param.sum() * float("inf")))
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(param, torch.ones(2))
    assert not optimizer.state
    optimizer.zero_grad()
    torch.autograd.backward(scaler.scale(param.sum()))
    scaler.step(optimizer)
    assert torch.allclose(param, torch.full((2,), 0.9))


# ---- state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_resume_is_exact(dtype: torch.dtype) -> None:
    params = [nn.Parameter(param.detach().to(dtype)) for param in make_params()]
    optimizer = Ranger(params, lr=0.01, k=4, weight_decay=0.1)
    run(optimizer, params, range(6))
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), params), file)
    file.seek(0)
    state, resumed_params = torch.load(file, weights_only=True)

    resumed = Ranger(resumed_params, lr=1.0)
    resumed.load_state_dict(state)
    run(optimizer, params, range(6, 15))
    run(resumed, resumed_params, range(6, 15))
    assert torch.equal(flat(resumed_params), flat(params))


def test_a_deep_copy_continues_equally() -> None:
    params = make_params()
    optimizer = Ranger(params, lr=0.01)
    run(optimizer, params, range(3))
    other, other_params = copy.deepcopy((optimizer, params))
    run(optimizer, params, range(3, 8))
    run(other, other_params, range(3, 8))
    assert torch.equal(flat(other_params), flat(params))


def test_low_precision_weights_have_float32_moments() -> None:
    param = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = Ranger([param], lr=0.1)
    param.grad = torch.ones_like(param)
    optimizer.step()
    state = optimizer.state[param]
    assert [state[key].dtype for key in ("exp_avg", "slow_buffer")] == [torch.float32, torch.bfloat16]
    assert torch.allclose(param.float(), torch.full((3,), 0.9), atol=0.01)


# ---- cost


class CountOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":  # profiler marks are no computation
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("steps", "ops"), [(2, 5), (7, 7), (11, 9)])  # plain, rectified, and lookahead
def test_the_number_of_ops_does_not_grow_with_the_number_of_tensors(steps: int, ops: int) -> None:
    for tensors in (1, 50):
        params = make_params(((2,),) * tensors)
        optimizer = Ranger(params, betas=(0.9, 0.999), weight_decay=0.1)
        run(optimizer, params, range(steps))
        with CountOps() as counter:
            optimizer.step()
        assert sum(counter.counts.values()) == ops, counter.counts


def test_chunks_are_for_cpus_only_and_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked = make_params(), make_params()
    run(Ranger(whole, lr=0.05, k=2), whole, range(8))
    monkeypatch.setattr("mask_lightning.optim.ranger.CPU_CHUNK", 10)
    optimizer = Ranger(chunked, lr=0.05, k=2)
    run(optimizer, chunked, range(7))
    give_grads(chunked, 7)
    with CountOps() as counter:
        optimizer.step()
    assert torch.equal(flat(chunked), flat(whole))
    assert counter.counts["aten._foreach_lerp_.Scalar"] == 2 * 2  # moments and lookahead, in two chunks

    elsewhere = [nn.Parameter(torch.empty(shape, device="meta")) for shape in SHAPES]
    optimizer = Ranger(elsewhere)
    for param in elsewhere:
        param.grad = torch.empty_like(param)
    optimizer.step()
    with CountOps() as counter:
        optimizer.step()
    assert counter.counts["aten._foreach_lerp_.Scalar"] == 1


# ---- in Lightning


class Net(pl.LightningModule):
    def __init__(self, make: Callable[..., torch.optim.Optimizer], steps: int) -> None:
        super().__init__()
        self.layer, self.make, self.steps = nn.Linear(2, 1), make, steps
        self.losses: list[float] = []
        self.momenta: list[float] = []

    def training_step(self, batch: Tensor) -> Tensor:
        optimizer = self.trainer.optimizers[0]
        self.momenta.append(round(optimizer.param_groups[0]["betas"][0], 4))
        loss: Tensor = (self.layer(batch) - 1).square().mean()
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.make([{"name": "all", "params": list(self.parameters())}])
        phases = [PhaseSchedule(self.steps, {"all": 0.1}, one_cycle(pct_start=0.5))]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": PhasedLR(optimizer, phases), "interval": "step"},
        }


def fit(make: Callable[..., torch.optim.Optimizer], precision: Any) -> Net:
    torch.manual_seed(0)
    net, rows = Net(make, steps=4), cast("Dataset[Tensor]", torch.ones(8, 2))
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=4, precision=precision, barebones=True)
    trainer.fit(net, DataLoader(rows, batch_size=2))
    return net


@lightnings_warning
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trains_in_lightning_with_a_momentum_schedule(precision: str) -> None:
    net = fit(Ranger, precision)
    assert net.losses[-1] < net.losses[0]
    assert net.momenta == [0.95, 0.9, 0.85, 0.9]


@lightnings_warning
def test_lightning_refuses_the_parent() -> None:
    with pytest.raises(MisconfigurationException, match="closure"):
        fit(torch_optimizer.Ranger, "32-true")
