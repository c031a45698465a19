"""Base of all option classes, and their validation: names, types, ranges, and one-line errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mask_lightning.errors import ConfigError, MaskLightningError, one_line

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
Share = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1)]
LearningRate = Annotated[float, Field(gt=0, le=100)]

ONE_OR_SEVERAL = BeforeValidator(lambda value: [value] if isinstance(value, (str, Path)) else value)  # paths


def required(remedy: str) -> BeforeValidator:
    """Refuse null in an option that has no default.

    Args:
        remedy: end of the message: what to do.
    """

    def check_set(value: Any, info: ValidationInfo) -> Any:
        if value is None:
            raise ValueError(f"{info.field_name} is not set; {remedy}")
        return value

    return BeforeValidator(check_set)


class Settings(BaseModel):
    """Base of all option objects: immutable; an unknown option is an error.

    Attributes:
        by_choice: True if each choice in conf/ lists the options that it has, so that the defaults of the class are not
            composed into a config.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    by_choice: ClassVar[bool] = False


def default_options(settings: type[BaseModel]) -> dict[str, Any]:
    """Return the default of every option as nested plain values; null for options without a default.

    Sections whose options depend on a choice (`Settings.by_choice`) are left out.

    Example:
        >>> class Model(Settings):
        ...     backbone: str
        ...     drop_rate: float = 0.0
        >>> default_options(Model)
        {'backbone': None, 'drop_rate': 0.0}
    """
    values: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            values[name] = _plain_default(field)
        elif not getattr(section, "by_choice", False):
            values[name] = default_options(section)
    return values


def describe_options(settings: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Return the description of every option by its dotted name; options without a description are left out."""
    found: dict[str, str] = {}
    for name, field in settings.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            found |= describe_options(section, f"{prefix}{name}.")
        elif field.description:
            found[f"{prefix}{name}"] = field.description
    return found


def _plain_default(field: FieldInfo) -> Any:
    if isinstance(field.json_schema_extra, dict) and "composed" in field.json_schema_extra:
        return field.json_schema_extra["composed"]  # an interpolation, such as "${seed}"
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True)
    if isinstance(default, list):
        return [str(value) if isinstance(value, Path) else value for value in default]
    return str(default) if isinstance(default, Path) else default


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the class of a field that is a section of options, else None."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


Checked = TypeVar("Checked", bound=BaseModel)


def check(settings: type[Checked], config: Mapping[str, Any]) -> Checked:
    """Validate composed plain values as settings of a class. Raises ConfigError with one line for the first mistake."""
    try:
        return settings.model_validate(config)
    except ValidationError as error:
        raise ConfigError(one_line(_describe(error.errors(include_url=False), settings))) from None
    except MaskLightningError as error:  # raised by a validator; it contains what was typed
        raise type(error)(one_line(str(error))) from None


def _describe(errors: list[ErrorDetails], settings: type[BaseModel]) -> str:
    first, path = errors[0], _option(errors[0])
    # A value that fits no type of a union has an error for each type.
    same = [error for error in errors if _option(error) == path]
    expected = " or ".join(dict.fromkeys(_expected(error["msg"]) for error in same))
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no option {path}; remove it"
    if first["type"] == "missing":
        return f"option {path} is missing; set it"
    default = _default(settings, path)
    shown = str(default).lower() if isinstance(default, bool) else default
    example = f", for example {path}={shown}" if isinstance(default, (str, int, float)) else ""
    return f"{path} must be {expected}, got {first['input']!r}; set {path}{example}"


def _default(settings: type[BaseModel], path: str) -> Any:
    """Return the default of an option in a section by its dotted name; None if it has none, or is part of a list."""
    *sections, name = path.split(".")
    if not sections:
        return None
    for section in sections:
        field = settings.model_fields.get(section)
        inner = _section(field.annotation) if field else None
        if inner is None:
            return None
        settings = inner
    field = settings.model_fields.get(name)
    return _plain_default(field) if field and not isinstance(field.json_schema_extra, dict) else None


def _option(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"] if not _is_type_name(part))


def _expected(message: str) -> str:
    for wording, ours in _WORDINGS:
        message = re.sub(wording, ours, message)
    return message


_WORDINGS = (  # pydantic's wording, and ours to follow "must be"
    (r"^Input should be ", ""),
    (r"^Input is not a valid path for .*", "a path"),
    (r"^List should have (.*) after validation.*", r"a list with \1"),
    (r"^a valid boolean.*", "true or false"),
    (r"^(a valid \w+), unable to parse.*", r"\1"),
    (r"^a valid dictionary or instance of LastBlocks$", "{last: n}"),
)


def _is_type_name(part: int | str) -> bool:
    """Return True for the type names that pydantic inserts into the path of a union's errors."""
    return isinstance(part, str) and (
        part in ("int", "float", "str", "bool", "none") or bool(re.search(r"[-\[A-Z]", part))
    )


def check_range(name: str, value: Any, interval: str, remedy: str = "") -> None:
    """Check that a value is a number within an interval.

    Args:
        name: what the value is called in the message.
        value: the value; booleans are not numbers here.
        interval: such as "[0, 1)" or "(0, inf)"; a round bracket excludes the end.
        remedy: end of the message, what to do.

    Raises:
        ConfigError: the value is not a number, or not in the interval.

    Example:
        >>> check_range("decay", 0.999, "(0, 1)")
    """
    low, high = map(float, interval[1:-1].split(", "))
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not fits or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise ConfigError(f"{name} must be in {interval}, got {value!r}" + (remedy and f"; {remedy}"))


def refuse_others(group: str, name: str, owners: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raise ValueError if an option belongs to another choice of its group."""
    for option, owner in owners.items():
        if option in options and name != owner:
            raise ValueError(
                f"{group}.{option} is for {group}={owner}, found {options[option]} beside {group}={name}; remove it"
            )
