"""How composed values are checked: names, types and ranges, and a mistake told in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from mask_lightning.errors import ConfigError, MaskLightningError, one_line

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
Share = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1)]
LearningRate = Annotated[float, Field(gt=0, le=100)]


class Settings(BaseModel):
    """Base of all sections: immutable, and strict about what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Checked = TypeVar("Checked", bound=BaseModel)


def check(settings: type[Checked], config: Mapping[str, Any]) -> Checked:
    """Composed plain values -> settings of that class. Raises ConfigError, in one line, for the first wrong value."""
    try:
        return settings.model_validate(config)
    except ValidationError as error:
        raise ConfigError(one_line(_told(error.errors(include_url=False)))) from None
    except MaskLightningError as error:  # of a validator that knows one; what was typed stands in it
        raise type(error)(one_line(str(error))) from None


def _told(errors: list[ErrorDetails]) -> str:
    first, path = errors[0], _option(errors[0])
    # A value that fits none of a union's types has an error for each.
    same = [error for error in errors if _option(error) == path]
    expected = " or ".join(dict.fromkeys(_expected(error["msg"]) for error in same))
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no option {path}; remove it"
    if first["type"] == "missing":
        return f"option {path} is missing; set it"
    return f"{path} must be {expected}, got {first['input']!r}; set {path}"


def _option(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"] if not _is_type_name(part))


def _expected(message: str) -> str:
    for wording, ours in _WORDINGS:
        message = re.sub(wording, ours, message)
    return message


_WORDINGS = (  # pydantic's, and what fits after "must be"
    (r"^Input should be ", ""),
    (r"^Input is not a valid path for .*", "a path"),
    (r"^List should have (.*) after validation.*", r"a list with \1"),
    (r"^a valid boolean.*", "true or false"),
    (r"^(a valid \w+), unable to parse.*", r"\1"),
    (r"^a valid dictionary or instance of LastBlocks$", "{last: n}"),
)


def _is_type_name(part: int | str) -> bool:
    """pydantic puts the tried member of a union into the path of its errors."""
    return isinstance(part, str) and (
        part in ("int", "float", "str", "bool", "none") or bool(re.search(r"[-\[A-Z]", part))
    )


def refuse_others(group: str, name: str, owners: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that is another choice's own."""
    for option, owner in owners.items():
        if option in options and name != owner:
            raise ValueError(
                f"{group}.{option} is for {group}={owner}, found {options[option]} beside {group}={name}; remove it"
            )
