"""List the commands, or run one: `python -m mask_lightning <command>`, `mask-lightning <command>`."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from mask_lightning.errors import did_you_mean

PACKAGE = Path(__file__).parent


def commands() -> dict[str, str]:
    """Return each command's name and one-line description: the top-level modules that can be run."""
    found = {}
    for path in sorted(PACKAGE.glob("[a-z]*.py")):
        source = path.read_text(encoding="utf-8")
        if "run_command(" in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return found


def main() -> None:
    """Run the command that the first argument names, with the other arguments; without one, list the commands."""
    known = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("usage: python -m mask_lightning.<command> [option=value ...]    (--help lists a command's options)\n")
        for command, description in known.items():
            print(f"  {command:<18}{description}")
        print('\nshell completion: eval "$(python -m mask_lightning completion)"    (bash)')
        return
    if name == "completion":
        from mask_lightning.cli.completion import completion_script, suggest_words

        print("\n".join(suggest_words(sys.argv[2], known)) if len(sys.argv) > 2 else completion_script())
        return
    if name not in known:
        sys.exit(_refuse(name, known))
    sys.argv = [f"mask_lightning.{name}", *sys.argv[2:]]
    runpy.run_module(f"mask_lightning.{name}", run_name="__main__", alter_sys=True)


def _refuse(name: str, known: dict[str, str]) -> int:
    print(f"error: there is no command {name}; {did_you_mean(name, known)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
