"""Thousands of command lines that a tired person, or a script gone wrong, might type, for every command.

Each composes into settings that hold, or fails with one line: never with a traceback, never without an end.
"""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mask_lightning.cli.compose import compose, config_dir, option_values, store_defaults
from mask_lightning.errors import MaskLightningError
from mask_lightning.settings.base import Settings, check
from mask_lightning.settings.evaluation import (
    AuditSettings,
    CompareSettings,
    EvaluateSettings,
    ReportSettings,
    SuspectsSettings,
)
from mask_lightning.settings.inference import BlendSettings, CheckSubmissionSettings, PredictSettings, VoteSettings
from mask_lightning.settings.mask_faces import MaskFacesSettings
from mask_lightning.settings.train import TrainSettings

SECONDS = 30  # for one command line, on a machine that has other things to do

COMMANDS: dict[str, tuple[type[Settings], tuple[str, ...]]] = {  # what each command checks, and a line that it takes
    "train": (TrainSettings, ("data=competition", "data.root=photos")),
    "audit": (AuditSettings, ("data=competition", "data.root=photos")),
    "blend": (BlendSettings, ("files=[a.csv,b.csv]",)),
    "check_submission": (CheckSubmissionSettings, ("file=a.csv",)),
    "compare": (CompareSettings, ("runs=[a,b]",)),
    "evaluate": (EvaluateSettings, ("ckpt=run",)),
    "mask_faces": (MaskFacesSettings, ("data=utkface", "data.root=photos", "out=drawn")),
    "predict": (PredictSettings, ("ckpt=run", "data.root=photos")),
    "report": (ReportSettings, ("ckpt=run",)),
    "suspects": (SuspectsSettings, ("runs=[a,b]",)),
    "vote": (VoteSettings, ("runs=sweep",)),
}

VALUES = (
    *("null", "true", "false", "yes", "no", "on", "off", "auto", "none", "0", "1", "2", "-1", "-0.0", "0.5", "1e-6"),
    *("1e309", "-1e309", "nan", "inf", "1_000", "0x10", "9" * 400, "1e400", "007", "3.0", "2.5", "1000000007"),
    *("''", '""', "' '", "a", "a b", "ü", "漢字", "💥", "a/b", "../../etc/passwd", "/", "~", ".", "C:\\x", "a\\nb"),
    *("[]", "[1]", "[a,b]", "[[1,2],[3]]", "[null]", "{}", "{a:1}", "{a:{b:[1]}}", "{1:2}", "[{a:1}]", "{null:1}"),
    *("'[1'", "'{'", "'${'", '"\'"', "[", "{", "]", "}", "(", ")", ",", "1,2", "choice(1,2)", "range(1,3)", "glob(*)"),
    *("int(1.5)", "float(a)", "str([1])", "json_str({a:1})", "cast(1)", "shuffle([1])", "sort(1)", "interval(0,1)"),
    *("${seed}", "${nowhere}", "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${data}", "${.}", "${..}", "${}", "$"),
    *("${hydra:job.num}", "${run_folder:a}", "${job_folder:a,b}", "${oc.decode:'{'}", "${oc.create:{}}", "${a:b:c}"),
    *("!!python/object/apply:os.system [true]", "<script>", "%s", "{{x}}", "a" * 5000, "[" * 60, "{a:" * 60),
)
ALPHABET = "abcxyz019_.-+~=@:/,[]{}()'\"\\$#!%&*? \t\né漢💥"
HYDRA = (
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.job.name", "hydra.verbose", "hydra.mode", "hydra.callbacks", "hydra"),
    *("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra.searchpath", "hydra.output_subdir", "hydra.env"),
)

Line = list[str]
Mutation = Callable[["Vocabulary", random.Random], str]


@dataclass(frozen=True)
class Vocabulary:
    """Options of a command, and its groups with their choices."""

    options: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, command: str) -> Vocabulary:
        """Return those of a command that is composed without overrides."""
        folders = [path for path in sorted(config_dir().iterdir()) if path.is_dir()]
        store_defaults(COMMANDS[command][0])
        choices = {folder.name: tuple(sorted(path.stem for path in folder.glob("*.yaml"))) for folder in folders}
        return cls(tuple(option_values(command)), choices)


def a_value(known: Vocabulary, rng: random.Random) -> str:
    """An option with a value of any kind."""
    return f"{rng.choice(known.options)}={rng.choice(VALUES)}"


def a_choice(known: Vocabulary, rng: random.Random) -> str:
    """A group with one of its choices, or nearly."""
    group = rng.choice(sorted(known.groups))
    nearly = misspelt(rng.choice(known.groups[group]), rng)
    return f"{group}={rng.choice([*known.groups[group], nearly, 'null', '[a,b]', 'true', '3'])}"


def a_typo(known: Vocabulary, rng: random.Random) -> str:
    """An option that is misspelt."""
    return f"{misspelt(rng.choice(known.options), rng)}={rng.choice(VALUES)}"


def a_prefix(known: Vocabulary, rng: random.Random) -> str:
    """An option that is added, forced or removed, with a value or without."""
    option = rng.choice([*known.options, *known.groups, f"{rng.choice(known.options)}.new", "new"])
    return rng.choice(["+", "++", "~", "+++", "~~"]) + option + rng.choice(["", f"={rng.choice(VALUES)}"])


def a_package(known: Vocabulary, rng: random.Random) -> str:
    """A group that is put somewhere else."""
    group = rng.choice(sorted(known.groups))
    return f"{group}@{rng.choice([*known.options, '_global_', '_here_', ''])}={rng.choice(known.groups[group])}"


def a_circle(known: Vocabulary, rng: random.Random) -> str:
    """An option that is another one, or itself."""
    option = rng.choice(known.options)
    return f"{option}=${{{rng.choice([option, rng.choice(known.options)])}}}"


def of_hydra(known: Vocabulary, rng: random.Random) -> str:
    """An option of Hydra's own."""
    return rng.choice(["", "+", "++"]) + f"{rng.choice(HYDRA)}={rng.choice(VALUES)}"


def junk(known: Vocabulary, rng: random.Random) -> str:
    """Signs in any order, alone or behind an option."""
    text = "".join(rng.choices(ALPHABET, k=rng.randrange(12)))
    return rng.choice([text, f"{rng.choice(known.options)}={text}"])


ANY: tuple[Mutation, ...] = (a_choice, a_typo, a_prefix, a_package, a_circle, of_hydra, junk)
MUTATIONS = (a_value, a_value, a_value, *ANY)


def misspelt(word: str, rng: random.Random) -> str:
    """The word with a sign lost, doubled, turned round or replaced."""
    place, other = rng.randrange(len(word)), rng.choice(ALPHABET[:12])
    before, sign, after = word[:place], word[place], word[place + 1 :]
    lost, doubled = before + after, before + 2 * sign + after
    return rng.choice([lost, doubled, before + after[:1] + sign + after[1:], before + other + after])


def command_lines(command: str, count: int, *, seed: int) -> Iterator[Line]:
    """`count` lines for a command, the same whenever the seed is: the one that it takes, with up to three mutations."""
    rng, known, (_, good) = random.Random(f"{command}-{seed}"), Vocabulary.of(command), COMMANDS[command]
    for _ in range(count):
        base = good if rng.random() < 0.8 else ()
        yield [*base, *(rng.choice(MUTATIONS)(known, rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))]


def is_taken(command: str, line: Sequence[str]) -> bool:
    """Return True if the command accepts the line; False if it refuses it as it should.

    Raises:
        AssertionError: it answers with anything but one line, or not in time.
    """
    try:
        with no_longer_than(SECONDS):
            check(COMMANDS[command][0], compose(command, COMMANDS[command][0], line))
    except MaskLightningError as error:
        told = str(error)
        assert told.strip(), f"{command} {line} is refused without a word"
        assert "\n" not in told, f"{command} {line} is refused in several lines: {told}"
        assert len(told) < 2000, f"{command} {line} is refused in {len(told)} signs"
        return False
    except TimeoutError:
        raise AssertionError(f"{command} {line} has no end") from None
    except Exception as error:
        raise AssertionError(f"{command} {line} ends in {type(error).__name__}: {error}") from error
    return True


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raises TimeoutError within the block once it takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
