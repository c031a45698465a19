"""Shell completion: suggestions, and the script in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from mask_lightning.__main__ import commands
from mask_lightning.cli.completion import suggest_words

COMMANDS = list(commands())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mask-lightning tr", ["train"]),
        ("python -m mask_lightning.tr", ["mask_lightning.train"]),
        ("mask-lightning train model=li", ["model=lite0", "model=lite2"]),
        ("python -m mask_lightning.train experiment=q", ["experiment=quick"]),
        ("python -m mask_lightning.train optim.l", ["optim.lr="]),
        ("python -m mask_lightning.train model=lite0 inspect=", ["inspect=true", "inspect=false"]),
        ("python -m mask_lightning.train trainer.devices=", ["trainer.devices=auto"]),
        ("python -m mask_lightning.train mode", ["model="]),
        ("python -m mask_lightning.evaluate tt", ["tta="]),
        ("python -m mask_lightning.evaluate tta=f", ["tta=flip"]),
        ("python -m mask_lightning.train --he", ["--help", "--help=all"]),
        ("python -m mask_lightning.train no.such=", []),
    ],
)
def test_words_are_suggested(line: str, words: list[str]) -> None:
    found = suggest_words(line, COMMANDS)
    assert [word for word in found if not word.startswith("model.")] == words


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "reply"),
    [("python -m mask_lightning.train model=l", "model=lite0 model=lite2"), ("python -m json.to", "")],
)
def test_bash_completes_a_line(line: str, reply: str) -> None:
    script = (
        f'eval "$({sys.executable} -m mask_lightning completion)"\n'
        f'COMP_LINE="{line}"; COMP_POINT={len(line)}; _mask_lightning; echo "${{COMPREPLY[*]}}"\n'
        "complete -p python"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [reply, "complete -o default -o nospace -F _mask_lightning python"]
