"""Model soups: one model with the mean weights of several members, for one forward pass instead of many.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time", https://arxiv.org/abs/2203.05482.
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
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from mask_lightning.data.batching import normalise
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.splits import draw_stratified
from mask_lightning.data.transforms import eval_pipeline
from mask_lightning.ensemble.cross_fit import Ints, cross_fit, person_folds
from mask_lightning.ensemble.members import LoadedMembers, Member
from mask_lightning.ensemble.scoring import mean_score
from mask_lightning.inference.trained import Trained
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.utils.files import write_atomically

BATCH = 32
CLEAN_PHOTOS = 512

State = dict[str, Tensor]
Predict = Callable[[Trained], Predictions]  # model -> its predictions for the held-out photos


@dataclass(frozen=True)
class SoupMember:
    """Name of a member, its model, and its score on the held-out people."""

    name: str
    network: Trained
    score: float


@dataclass(frozen=True)
class Soup:
    """Averaged model.

    Attributes:
        network: the model.
        names: names of the members in it.
        cross_fitted: for a soup whose members were chosen on the held-out people: predictions for them of soups chosen
            on others, see `ensemble.cross_fit`. None if nothing was chosen, or with a single person.
    """

    network: Trained
    names: tuple[str, ...]
    cross_fitted: Predictions | None = None


def why_no_soup(members: Sequence[Member]) -> str | None:
    """Explain why the weights of these members of one task cannot be averaged; None if they can.

    In the paper, all members start from the same weights. Here this means the same backbone, pretrained weights, head
    and seed, which initialises the head.
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
    """Name of the head; runs that predate the option `head` have `classes`."""
    head = member.config.get("head") or {"name": "classes"}
    return f"{head['name']} {head['method']}" if head["name"] == "ordinal" else str(head["name"])


def make_soups(
    loaded: LoadedMembers, parts: Sequence[Predictions], train: pd.DataFrame, predict: Predict
) -> tuple[dict[str, Soup], list[str]]:
    """Make soups of the members that predict the same tasks and started from the same weights.

    Args:
        loaded: the members.
        parts: predictions of each member for the held-out photos.
        train: rows of the training side; a sample without augmentation recomputes the BatchNorm statistics.
        predict: predicts the held-out photos.

    Returns:
        `soup_<tasks>_<recipe>` -> soup, and one line for each group of members without a soup. The recipes are
        `uniform`, `greedy` and `renewed`: the best member alone with recomputed BatchNorm statistics, as a baseline.
    """
    soups: dict[str, Soup] = {}
    remarks: list[str] = []
    for tasks, positions in loaded.by_tasks().items():
        reason = why_no_soup([loaded.members[i] for i in positions])
        if reason:
            remarks.append(f"no soup for {', '.join(tasks)}: {reason}")
            continue
        clean = draw_stratified(train, CLEAN_PHOTOS, strata=tasks, seed=0)
        members = [SoupMember(loaded.members[i].name, loaded.networks[i], mean_score(parts[i])) for i in positions]
        best = max(members, key=lambda each: each.score)
        made = {
            "renewed": uniform_soup([best], clean),
            "uniform": uniform_soup(members, clean),
            "greedy": cross_fitted_greedy_soup(members, [parts[i] for i in positions], clean, predict),
        }
        soups |= {"_".join(("soup", *tasks, recipe)): soup for recipe, soup in made.items()}
    return soups, remarks


def uniform_soup(members: Sequence[SoupMember], clean: pd.DataFrame) -> Soup:
    """Average the weights of all members.

    Args:
        members: of the same architecture.
        clean: training photos that recompute the BatchNorm statistics, since averaged statistics do not fit.
    """
    return _mix([each.network for each in members], [each.name for each in members], clean)


def greedy_soup(
    members: Sequence[SoupMember], clean: pd.DataFrame, score: Callable[[Sequence[SoupMember]], float]
) -> Soup:
    """Mix the members that `choose_greedily` chooses; the best member unchanged if no soup is as good."""
    chosen, mixed = choose_greedily(members, score)
    return uniform_soup(chosen, clean) if mixed else Soup(chosen[0].network, (chosen[0].name,))


def choose_greedily(
    members: Sequence[SoupMember], score: Callable[[Sequence[SoupMember]], float]
) -> tuple[list[SoupMember], bool]:
    """Add members from the best one down; keep each that does not lower the score of the soup (recipe 1 of the paper).

    The best member is first tried with recomputed BatchNorm statistics, so that other members must improve on more than
    these.

    Args:
        members: of the same architecture, with scores on the people of `score`.
        score: scores the uniform soup of some members. The soup is chosen on these people, so it must be scored on
            others.

    Returns:
        The chosen members, the best first, and False if the best member is better without new statistics.
    """
    best, *others = sorted(members, key=lambda each: -each.score)
    chosen, mixed, highest = [best], False, best.score
    for more in ([], *([other] for other in others)):
        value = score([*chosen, *more])
        if value >= highest:
            chosen, mixed, highest = [*chosen, *more], True, value
    return chosen, mixed


def cross_fitted_greedy_soup(
    members: Sequence[SoupMember], parts: Sequence[Predictions], clean: pd.DataFrame, predict: Predict
) -> Soup:
    """Choose a greedy soup on all held-out people, and predict each fold of them with the soup chosen on the others.

    Args:
        members: of the same architecture.
        parts: predictions of each member for the held-out photos.
        clean: training photos that recompute the BatchNorm statistics.
        predict: predicts the held-out photos; called once for each soup that is tried.
    """
    own = {each.name: part for each, part in zip(members, parts, strict=True)}
    mixtures: dict[frozenset[str], Predictions] = {}

    def predict_mixture(several: Sequence[SoupMember]) -> Predictions:
        key = frozenset(each.name for each in several)
        if key not in mixtures:
            mixtures[key] = predict(uniform_soup(several, clean).network)
        return mixtures[key]

    def predict_fold(others: Ints, held: Ints) -> Predictions:
        scored = [replace(each, score=mean_score(own[each.name].select(others))) for each in members]
        chosen, mixed = choose_greedily(scored, lambda several: mean_score(predict_mixture(several).select(others)))
        return (predict_mixture(chosen) if mixed else own[chosen[0].name]).select(held)

    soup = greedy_soup(members, clean, lambda several: mean_score(predict_mixture(several)))
    fold = person_folds(parts[0])
    return soup if fold is None else replace(soup, cross_fitted=cross_fit(fold, predict_fold))


def average_states(states: Sequence[State]) -> State:
    """Average the floating-point tensors of several state dicts; other tensors (batch counts) come from the first."""
    first = states[0]
    means = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        for name, value in first.items()
        if value.is_floating_point()
    }
    return {**first, **means}


def write_checkpoint(path: Path, soup: Soup) -> None:
    """Write the soup atomically, as a checkpoint that `load_trained` and Lightning can read."""
    module, buffer = soup.network.module, BytesIO()
    content = {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "state_dict": module.state_dict(),
        "hyper_parameters": {**module.hparams, "config": None},  # no single run made it
        "soup": list(soup.names),
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _mix(networks: Sequence[Trained], names: Sequence[str], clean: pd.DataFrame) -> Soup:
    first = networks[0]
    module = copy.deepcopy(first.module)
    module.load_state_dict(average_states([network.module.state_dict() for network in networks]))
    mixed = replace(first, module=module)
    if len(clean) > 1:  # one photo has no statistics; the averaged ones stay
        update_bn(_batches(mixed, clean), module)  # resets the statistics, then averages them over the photos
    return Soup(mixed, tuple(names))


def _batches(trained: Trained, rows: pd.DataFrame) -> Iterable[Tensor]:
    """Yield normalised images (B, 3, H, W); all batches weigh the same, so a smaller last batch is dropped."""
    spec, size = trained.spec, min(BATCH, len(rows))
    photos = DataLoader(FaceDataset(rows, (), eval_pipeline(spec)), batch_size=size, drop_last=True)
    console = Console(stderr=True)
    title = "renewing the statistics of a soup"
    for batch in track(photos, title, console=console, transient=True, disable=not console.is_terminal):
        yield normalise(batch["image"].to(trained.module.device), spec.mean, spec.std)
