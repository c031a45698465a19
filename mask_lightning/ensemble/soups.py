"""One network whose weights are the mean of its members', for one forward pass instead of many.

After Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from mask_lightning.data.batching import normalise
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.splits import draw_stratified
from mask_lightning.data.transforms import eval_pipeline
from mask_lightning.ensemble.members import Jury, Member
from mask_lightning.inference.trained import Trained
from mask_lightning.utils.files import write_atomically

BATCH = 32
CLEAN_PHOTOS = 512

State = dict[str, Tensor]
Judge = Callable[[Trained], float]  # a network -> its score, more is better


@dataclass(frozen=True)
class Ingredient:
    """A member's name, its network, and its score on the held-out people."""

    name: str
    network: Trained
    score: float


@dataclass(frozen=True)
class Soup:
    """The averaged network and the names of the members in it."""

    network: Trained
    names: tuple[str, ...]


def reason_against(members: Sequence[Member]) -> str | None:
    """Why the weights of these members of one task cannot be averaged; None where they can.

    The paper's members all start from one set of weights. Here that is the same backbone, the same pretrained weights
    and the same seed, from which the heads follow.
    """
    if len(members) < 2:
        return "a soup takes two or more members"
    for name, start in {
        "backbones": lambda member: member.config["model"]["backbone"],
        "kinds of sharing": lambda member: member.config.get("sharing", {}).get("name", "hard"),
        "first weights": lambda member: member.result.weights,
        "heads": _name_head,
        "seeds, from which heads start": lambda member: member.config["seed"],
    }.items():
        different = list(dict.fromkeys(map(start, members)))
        if len(different) > 1:
            return f"they started from different {name}: {', '.join(map(str, different))}"
    return None


def _name_head(member: Member) -> str:
    """Of a run from before there was a choice: classes."""
    head = member.config.get("head") or {"name": "classes"}
    return f"{head['name']} {head['method']}" if head["name"] == "ordinal" else str(head["name"])


def cook(jury: Jury, scores: Sequence[float], train: pd.DataFrame, judge: Judge) -> tuple[dict[str, Soup], list[str]]:
    """The soups of those members who answer the same tasks and started alike.

    Args:
        jury: the members.
        scores: of each member, on the people of `judge`.
        train: rows of the training side: a sample of them, not augmented, renews the BatchNorm statistics.
        judge: scores a network.

    Returns:
        `soup_<tasks>_<recipe>` -> soup, and for members that make none a line that says why. The recipes are `uniform`,
        `greedy` and `renewed`: the best member alone with its BatchNorm statistics renewed, which a soup has to beat.
    """
    soups: dict[str, Soup] = {}
    remarks: list[str] = []
    for tasks, places in jury.groups().items():
        reason = reason_against([jury.members[i] for i in places])
        if reason:
            remarks.append(f"no soup for {', '.join(tasks)}: {reason}")
            continue
        clean = draw_stratified(train, CLEAN_PHOTOS, strata=tasks, seed=0)
        ingredients = [Ingredient(jury.members[i].name, jury.networks[i], scores[i]) for i in places]
        best = max(ingredients, key=lambda each: each.score)
        cooked = {
            "renewed": uniform_soup([best], clean),
            "uniform": uniform_soup(ingredients, clean),
            "greedy": greedy_soup(ingredients, clean, judge),
        }
        soups |= {"_".join(("soup", *tasks, recipe)): soup for recipe, soup in cooked.items()}
    return soups, remarks


def uniform_soup(ingredients: Sequence[Ingredient], clean: pd.DataFrame) -> Soup:
    """The mean of all members' weights; `clean` are the photos for the BatchNorm statistics, which a mean has not."""
    return _mix([each.network for each in ingredients], [each.name for each in ingredients], clean)


def greedy_soup(ingredients: Sequence[Ingredient], clean: pd.DataFrame, judge: Judge) -> Soup:
    """The paper's recipe 1: from the best member down, keep each one that does not make the soup's score worse.

    It is chosen by the score on the people that it is then scored on, so that score is optimistic. The best member
    is first tried with its own BatchNorm statistics renewed: others are to make better what that alone has.
    """
    best, *others = sorted(ingredients, key=lambda each: -each.score)
    chosen, soup, score = [best], Soup(best.network, (best.name,)), best.score
    for more in ([], *([other] for other in others)):
        trial = uniform_soup([*chosen, *more], clean)
        trial_score = judge(trial.network)
        if trial_score >= score:
            chosen, soup, score = [*chosen, *more], trial, trial_score
    return soup


def average_states(states: Sequence[State]) -> State:
    """The mean of every tensor of floats; of other tensors (counts of batches) those of the first."""
    first = states[0]
    means = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        for name, value in first.items()
        if value.is_floating_point()
    }
    return {**first, **means}


def write_checkpoint(path: Path, soup: Soup) -> None:
    """Write the soup as a checkpoint that `load_trained` and Lightning read, atomically."""
    module, buffer = soup.network.module, BytesIO()
    content = {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "state_dict": module.state_dict(),
        "hyper_parameters": {**module.hparams, "config": None},  # it is the result of no single run
        "soup": list(soup.names),
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _mix(networks: Sequence[Trained], names: Sequence[str], clean: pd.DataFrame) -> Soup:
    first = networks[0]
    module = copy.deepcopy(first.module)
    module.load_state_dict(average_states([network.module.state_dict() for network in networks]))
    mixed = replace(first, module=module)
    update_bn(_batches(mixed, clean), module)  # torch's own: forgets the statistics, then averages over the photos
    return Soup(mixed, tuple(names))


def _batches(trained: Trained, rows: pd.DataFrame) -> Iterable[Tensor]:
    """Normalised images (B, 3, H, W) of the photos; batches count alike, so the smaller rest is left out."""
    spec, size = trained.spec, min(BATCH, len(rows))
    photos = DataLoader(FaceDataset(rows, (), eval_pipeline(spec)), batch_size=size, drop_last=True)
    for batch in photos:
        yield normalise(batch["image"].to(trained.module.device), spec.mean, spec.std)
