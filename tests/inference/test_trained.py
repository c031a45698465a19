"""Loading a checkpoint gives the trained model, or an error of one line."""

from pathlib import Path

import pytest
import torch

from mask_lightning.engine.modules import MultiTaskModule, SingleTaskModule
from mask_lightning.errors import CheckpointError, ConfigError
from mask_lightning.inference.trained import choose_device, find_checkpoint, load_trained
from mask_lightning.labels import FACE, LabelSpace

CPU = torch.device("cpu")


@pytest.mark.parametrize(("space", "kind"), [(FACE, MultiTaskModule), (FACE.only(["age"]), SingleTaskModule)])
def test_network_and_preprocessing_come_back(make_checkpoint, space: LabelSpace, kind: type) -> None:
    path = make_checkpoint(space=space)
    trained = load_trained(path, CPU)
    assert type(trained.module) is kind
    assert trained.space == space
    assert trained.spec.mean == (0.4, 0.5, 0.6)
    assert not trained.module.training
    assert not any(parameter.requires_grad for parameter in trained.module.parameters())
    saved = torch.load(path, weights_only=True)["state_dict"]
    for name, tensor in trained.module.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    kernels = [parameter for parameter in trained.module.parameters() if parameter.dim() == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_source_identifies_the_checkpoint(make_checkpoint) -> None:
    one, same, other = (load_trained(make_checkpoint(f"{i}.ckpt", seed=i // 2), CPU).source for i in range(3))
    assert one.sha256 == load_trained(Path(one.checkpoint), CPU).source.sha256
    assert len({one.sha256, other.sha256}) == 2
    assert (one.tasks, same.backbone) == (FACE.names, "test_resnet")


def test_a_run_folder_stands_for_its_best_checkpoint(make_checkpoint, tmp_path: Path) -> None:
    best = make_checkpoint("run/checkpoints/best.ckpt")
    assert find_checkpoint(tmp_path / "run") == best
    assert find_checkpoint(best) == best


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "expected a run's folder or a .ckpt at .*nowhere, found nothing"),
        ("folder", r"expected a checkpoint at .*best\.ckpt, found none"),
        ("text.ckpt", "cannot read a checkpoint in .*text.ckpt"),
        ("empty.ckpt", "cannot read a checkpoint in .*empty.ckpt"),
        ("truncated.ckpt", "cannot read a checkpoint in .*truncated.ckpt"),
        ("code.ckpt", "cannot read a checkpoint in .*code.ckpt"),
        ("weights.ckpt", "is not a checkpoint that mask_lightning can rebuild .*hyper_parameters"),
        ("list.ckpt", "is not a checkpoint that mask_lightning can rebuild"),
        ("other_network.ckpt", "is not a checkpoint that mask_lightning can rebuild"),
        ("one_class.ckpt", "is not a checkpoint that mask_lightning can rebuild"),
    ],
)
def test_other_files_are_refused_in_one_line(make_checkpoint, tmp_path: Path, name: str, message: str) -> None:
    whole = make_checkpoint()
    content = torch.load(whole, weights_only=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.ckpt").write_text("no weights in here")
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "truncated.ckpt").write_bytes(whole.read_bytes()[:-2000])
    torch.save(Path("runs code when unpickled"), tmp_path / "code.ckpt")
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "weights.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({**content, "state_dict": {}}, tmp_path / "other_network.ckpt")
    options = {**content["hyper_parameters"], "tasks": {"mask": ["wear"]}}
    torch.save({**content, "hyper_parameters": options}, tmp_path / "one_class.ckpt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_trained(tmp_path / name, CPU)
    assert "\n" not in str(caught.value)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match="accelerator=gpu is not available"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("gpu") == torch.device("cuda")
