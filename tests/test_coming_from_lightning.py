"""The script of docs/coming_from_lightning.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming_from_lightning.md"


@pytest.mark.filterwarnings("ignore::Warning")  # Lightning's advice about workers and loggers
def test_the_script_finds_a_learning_rate_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(script, str(PAGE), "exec"), {"__name__": "script"})
    lr, loss = re.findall(r"^lr (\S+), training loss (\S+)$", capsys.readouterr().out, re.MULTILINE)[-1]
    assert 1e-4 < float(lr) < 1
    assert float(loss) < 0.9  # 1.1 for guessing
    assert not list(tmp_path.iterdir())
