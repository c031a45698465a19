"""Griffe extension: show the doctests of an `Example:` section as code."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Rename `Example:` to `Examples:`, whose doctests griffe renders as code; `Example:` would be prose."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Edit the docstring of a module, class, function or attribute before it is parsed."""
        if obj.docstring is not None:
            lines = obj.docstring.value.splitlines()
            obj.docstring.value = "\n".join("Examples:" if line.strip() == "Example:" else line for line in lines)
