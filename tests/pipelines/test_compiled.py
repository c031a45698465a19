"""A run of a compiled network is the run of the network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_runs import prepared

from mask_lightning.inference.trained import load_trained
from mask_lightning.pipelines import train as runs
from mask_lightning.runs.folder import RunFolder


def test_the_network_is_compiled_in_place(compose_train, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda call: lambda *images: compiled.append(call) or call(*images))
    settings = [compose_train(f"model.compile={value}") for value in ("false", "true")]
    plain, other = (prepared(each).build_pretrained_module().eval() for each in settings)
    images = torch.rand(2, 3, 32, 32)
    said = plain(images)
    assert not compiled
    assert all(torch.equal(values, said[task]) for task, values in other(images).items())
    assert compiled == [other.network._call_impl]
    assert list(other.state_dict()) == list(plain.state_dict())


@pytest.mark.slow
def test_it_learns_the_same_in_all_phases(compose_train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = ("finetune=two_phase", "finetune.phases.0.unfreeze=heads", "finetune.frozen_epochs=1", "averaging=ema")
    folders = [RunFolder(tmp_path / name) for name in ("plain", "compiled")]
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # all but the code that is generated
    for folder, value in zip(folders, ("false", "true"), strict=True):
        runs.train_run(compose_train(f"model.compile={value}", "trainer.max_batches=2", *phases), folder.path)
    histories = [pd.read_csv(folder.metrics) for folder in folders]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    plain, compiled = (load_trained(folder.path, torch.device("cpu")).module.state_dict() for folder in folders)
    assert plain.keys() == compiled.keys()
    assert all(torch.equal(tensor, compiled[name]) for name, tensor in plain.items())
