"""MkDocs hook: pages generated from the package, and the pages that live at the top of the repository.

`reference/commands.md` and `reference/options.md` come from the settings classes and conf/, `reference/*.md` for
mkdocstrings from a list of modules. `CONTRIBUTING.md` and `CHANGELOG.md` become pages with their links adapted.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mask_lightning.__main__ import commands
from mask_lightning.cli.compose import compose_config, config_dir, store_defaults, to_plain
from mask_lightning.cli.help import describe, list_leaves, show_value
from mask_lightning.settings.base import Settings
from mask_lightning.settings.train import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
AT_THE_TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
API = {  # page -> title, introduction, modules
    "notebook": (
        "Notebook functions",
        "`from mask_lightning.notebook import *` gives the functions below.",
        ["mask_lightning.notebook"],
    ),
    "parts": (
        "Parts for your own script",
        "They work with any Lightning Trainer: see [Coming from plain Lightning](../coming_from_lightning.md).",
        [
            "mask_lightning.callbacks.lr_range_test",
            "mask_lightning.callbacks.phased_finetuning",
            "mask_lightning.callbacks.weight_averaging",
            "mask_lightning.optim.ranger",
            "mask_lightning.optim.schedules",
            "mask_lightning.optim.phases",
            "mask_lightning.optim.param_groups",
            "mask_lightning.engine.modules",
            "mask_lightning.data.datamodule",
        ],
    ),
    "metrics": (
        "Metrics and labels",
        "Functions of arrays, and the label space.",
        [
            "mask_lightning.labels",
            "mask_lightning.metrics.scores",
            "mask_lightning.metrics.bootstrap",
            "mask_lightning.metrics.calibration",
            "mask_lightning.metrics.label_issues",
            "mask_lightning.errors",
        ],
    ),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"reference/commands.md": commands_page(), "reference/options.md": options_page()}
    pages |= {f"reference/{name}.md": api_page(*content) for name, content in API.items()}
    pages |= {page: (ROOT / name).read_text(encoding="utf-8") for name, page in AT_THE_TOP.items()}
    for path in sorted((ROOT / "tests/benchmarks/results").glob("*.png")):
        files.append(File.generated(config, f"images/{path.name}", abs_src_path=str(path)))
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (the signature is mkdocs')
    """Adapt links between docs/ and the top of the repository; other files of the repository become plain text."""

    def adapt(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        if link in AT_THE_TOP.values() or "://" in link or link.startswith("mailto:"):
            return match[0]
        from_top = page.file.src_uri in AT_THE_TOP.values()
        name = link if from_top else link.removeprefix("../")
        if not from_top and name == link:
            return match[0]
        if name.startswith("docs/"):
            return f"[{text}]({name.removeprefix('docs/')}{anchor})"
        if name in AT_THE_TOP:
            return f"[{text}]({AT_THE_TOP[name]}{anchor})"
        if name.endswith(".png"):
            return f"[{text}](images/{PurePath(name).name})"
        return text if from_top else match[0]

    return re.sub(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)", adapt, markdown)


def api_page(title: str, introduction: str, modules: list[str]) -> str:
    """Return a page on which mkdocstrings renders the modules."""
    return f"# {title}\n\n{introduction}\n\n" + "\n".join(
        f"::: {module}\n    options: {{show_root_full_path: true}}\n" for module in modules
    )


class Option(NamedTuple):
    """One option: dotted name, accepted values, composed default and description."""

    name: str
    kind: str
    default: str
    description: str

    def row(self) -> str:
        """Return the option as a row of a Markdown table."""
        cells = (f"`{self.name}`", self.kind, self.default, self.description)
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


HEAD = "| option | values | default | meaning |\n|---|---|---|---|"


def options_page() -> str:
    """Return the page with all options of `train`, a section for each group."""
    sections: dict[str, list[Option]] = {}
    for option in list_options("train", TrainSettings):
        group = option.name.partition(".")[0] if "." in option.name else "general"
        sections.setdefault(group, []).append(option)
    lines = [
        "# Options of train",
        "",
        "Every option of `python -m mask_lightning.train`, read from the classes that validate them. Set one with",
        "`option=value`, for example `optim.lr=1e-3`. `find_lr` takes the same options. Defaults are those of",
        "`train` without arguments; a choice such as `model=effb2` changes some, which",
        "`python -m mask_lightning.train model=effb2 --help=all` shows.",
    ]
    for group, options in sections.items():
        lines += ["", f"## {group}", ""]
        choices = group_choices(group)
        if choices:
            lines += [f"Choices: {', '.join(f'`{group}={choice}`' for choice in choices)}", ""]
        lines += [HEAD, *(option.row() for option in options)]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return the page with each command: its examples, and the options that are its own."""
    lines = [
        "# Commands",
        "",
        "`python -m mask_lightning` lists the commands, `python -m mask_lightning doctor` describes the installation.",
        "Each command has the form `python -m mask_lightning.<command> option=value ...`. Exit codes: 0; 2 for an",
        "error that you can correct; 1 for a bug; 130 after Ctrl-C and 143 after SIGTERM.",
    ]
    shared = {option.name for option in list_options("train", TrainSettings)}
    for command, description in commands().items():
        lines += ["", f"## {command}", "", description, "", "```", *examples(command), "```", ""]
        settings = settings_of(command)
        if settings is TrainSettings:
            lines.append("Options: see [Options of train](options.md).")
            continue
        groups = sorted({option.name.partition(".")[0] for option in list_options(command, settings)} & SHARED_GROUPS)
        own = [
            option
            for option in list_options(command, settings)
            if option.name.partition(".")[0] not in SHARED_GROUPS or option.name not in shared
        ]
        lines += [HEAD, *(option.row() for option in own)]
        if groups:
            links = ", ".join(f"[`{group}.*`](options.md#{group})" for group in groups)
            lines += ["", f"and, as for `train`: {links}"]
    return "\n".join(lines) + "\n"


SHARED_GROUPS = {"data", "labels", "task"}


def settings_of(command: str) -> type[Settings]:
    """Return the settings class with which a command calls `run_command`."""
    module = importlib.import_module(f"mask_lightning.{command}")
    call = re.search(rf'run_command\("{command}", (\w+)', inspect.getsource(module))
    assert call is not None, f"mask_lightning.{command} does not call run_command"
    found: type[Settings] = getattr(module, call[1])
    return found


def examples(command: str) -> list[str]:
    """Return the command lines of the help text in `conf/<command>.yaml`."""
    header = yaml.safe_load((config_dir() / f"{command}.yaml").read_text())["hydra"]["help"]["header"]
    return [line.strip() for line in header.splitlines() if line.startswith("  ")]


def group_choices(group: str) -> list[str]:
    """Return the choices of a folder of conf/; none if the group is no folder."""
    return sorted(path.stem for path in (config_dir() / group).glob("[!_]*.yaml"))


def list_options(command: str, settings: type[Settings]) -> list[Option]:
    """Return all options of a command in the order of its settings class.

    Options that only some choices have, such as the arguments of an optimizer, follow those of their group.
    """
    store_defaults(settings)
    composed = dict(list_leaves(to_plain(compose_config(command))))
    described: dict[str, Option] = {}
    for name, field in _fields(settings):
        default = composed[name] if name in composed else _in_choices(name)
        described[name] = Option(name, kind_of(field), _shown(default), field.description or "")
    for name, value in composed.items():
        if not any(name == known or name.startswith(f"{known}.") for known in described):
            described[name] = Option(name, type(value).__name__, _shown(value), describe(name, settings))
    return list(described.values())


class _Unset:
    """Stands for an option that the composed config does not have."""


def _in_choices(name: str) -> Any:
    """Return the values that choices in conf/ give to an option."""
    group, _, key = name.partition(".")
    found = {}
    for choice in group_choices(group):
        content = yaml.safe_load((config_dir() / group / f"{choice}.yaml").read_text()) or {}
        if key in content:
            found[choice] = content[key]
    return found or _Unset


def _fields(settings: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _shown(value: Any) -> str:
    return "" if value is _Unset else f"`{show_value(value)}`"


def kind_of(field: FieldInfo) -> str:
    """Describe the values that a field accepts: type, range and choices.

    Example:
        >>> kind_of(TrainSettings.model_fields["inspect"])
        'true or false'
    """
    return _kind(field.annotation, list(field.metadata))


def _kind(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [
            each for entry in arguments[1:] for each in (entry.metadata if isinstance(entry, FieldInfo) else [entry])
        ]
        return _kind(arguments[0], [*inner, *metadata])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        kinds = [_kind(each, metadata) for each in arguments if each is not NoneType]
        return " or ".join(dict.fromkeys([*kinds, *(["null"] if NoneType in arguments else [])]))
    if origin is list:
        bounds = _bounds(metadata, MinLen, MaxLen)
        inner = re.sub(r"^a path$", "paths", _kind(arguments[0], []))
        return f"list of {inner}{bounds}"
    if origin is tuple:
        return f"[{', '.join(_kind(each, []) for each in arguments)}]"
    if origin is dict:
        return f"mapping of {_kind(arguments[0], [])} to {_kind(arguments[1], [])}"
    names = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", Any: "any"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    name = names.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{name}{_range(metadata)}" if annotation in (int, float) else name


def _range(metadata: list[Any]) -> str:
    """Return an interval such as " in [0, 1)", or "" for a number without bounds."""
    low: tuple[str, str] = ("(", "-inf")
    high: tuple[str, str] = ("inf", ")")
    for bound in _flat(metadata):
        match bound:
            case Ge(ge=value):
                low = ("[", f"{value:g}")
            case Gt(gt=value):
                low = ("(", f"{value:g}")
            case Le(le=value):
                high = (f"{value:g}", "]")
            case Lt(lt=value):
                high = (f"{value:g}" if value < 2**32 else "2^32", ")")
    if high[0] == "inf":
        return "" if low[1] == "-inf" else f" {'>=' if low[0] == '[' else '>'} {low[1]}"
    return f" in {''.join(low)}, {''.join(high)}"


def _bounds(metadata: list[Any], least: type, most: type) -> str:
    found = _flat(metadata)
    low = next((each.min_length for each in found if isinstance(each, least)), None)
    high = next((each.max_length for each in found if isinstance(each, most)), None)
    return f" ({low})" if low is not None and low == high else ""


def _flat(metadata: list[Any]) -> list[Any]:
    return [each for entry in metadata for each in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
