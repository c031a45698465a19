"""The pass over photos against plain NumPy around the network itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mask_lightning.data.images import open_photo
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import LabelError, PhotoError
from mask_lightning.inference import views
from mask_lightning.inference.forward import predict, predict_many
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE, UNLABELLED

CPU = torch.device("cpu")


@pytest.fixture
def rows(eval_folder: Path) -> pd.DataFrame:
    return read_photo_list(eval_folder).table


def logits_of(checkpoint: Path, path: str) -> dict[str, np.ndarray]:
    """48 x 32 of the middle, resized to 32 x 32, normalised; through the network as Lightning loads it."""
    module = MultiTaskModule.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu").eval()
    photo = Image.open(path).convert("RGB").crop((8, 8, 40, 56)).resize((32, 32), Image.Resampling.BILINEAR)
    pixels = (np.asarray(photo) / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.25])
    with torch.no_grad():
        logits = module(torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32))
    return {task: values[0].double().numpy() for task, values in logits.items()}


@pytest.mark.parametrize(("batch_size", "num_workers"), [(2, 0), (64, 1)])
def test_probabilities_and_losses(make_checkpoint, rows: pd.DataFrame, batch_size: int, num_workers: int) -> None:
    checkpoint = make_checkpoint()
    targets = {"mask": [0, 2, UNLABELLED, 1, 1], "age": [2.0, np.nan, 0.0, 1.0, 1.0]}
    said = predict(
        load_trained(checkpoint, CPU), rows.assign(**targets), batch_size=batch_size, num_workers=num_workers
    )
    assert said.photos.equals(rows)
    for i, path in enumerate(rows["path"]):
        for task, logits in logits_of(checkpoint, path).items():
            probs = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(said.probs[task][i], probs, atol=1e-5)
            target = targets.get(task, [np.nan] * 5)[i]
            known = target >= 0
            assert said.targets[task][i] == (target if known else UNLABELLED)
            np.testing.assert_allclose(
                said.losses[task][i], -np.log(probs[int(target)]) if known else np.nan, atol=1e-4
            )


@pytest.mark.parametrize(
    "head",
    [
        {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]},
        {"name": "classes_and_regression", "top": 60.0},
        {"name": "coral"},
        {"name": "corn"},
    ],
)
def test_predictions_do_not_know_which_head_it_is(make_checkpoint, rows: pd.DataFrame, head: dict) -> None:
    """A checkpoint of any head is rebuilt, and its answers are probabilities, also over the views of a photo."""
    trained = load_trained(make_checkpoint(heads={"age": head}), CPU)
    said = predict(trained, rows.assign(age=[0, 1, 2, 0, 1]), tta="flip", num_workers=0)
    assert said.probs["age"].shape == (5, 3)
    np.testing.assert_allclose(said.probs["age"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(said.losses["age"], -np.log(said.probs["age"][range(5), [0, 1, 2, 0, 1]]), rtol=1e-4)


def test_the_class_of_a_regressed_age_is_the_band_that_it_lies_in(make_checkpoint, rows: pd.DataFrame) -> None:
    head = {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]}
    trained = load_trained(make_checkpoint(heads={"age": head}), CPU)
    for bias, want in ((-2.0, 0), (0.5, 1), (6.0, 2)):  # about 7, 37 and 59.9 years
        linear = trained.module.network.heads["age"].linear
        torch.nn.init.constant_(linear.bias, bias)
        torch.nn.init.zeros_(linear.weight)
        assert (predict(trained, rows, num_workers=0).preds["age"] == want).all()


def test_a_surprise_has_a_finite_loss(make_checkpoint, rows: pd.DataFrame) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    with torch.no_grad():
        trained.module.network.heads["mask"].linear.bias.copy_(torch.tensor([500.0, 0.0, 0.0]))
    said = predict(trained, rows.assign(mask=1), num_workers=0)
    assert (said.probs["mask"][:, 1] == 0).all()
    np.testing.assert_allclose(said.losses["mask"], 500, rtol=0.05)


def test_rows_without_names_are_named_by_their_path(make_checkpoint, rows: pd.DataFrame) -> None:
    said = predict(load_trained(make_checkpoint(), CPU), rows.drop(columns="photo").assign(shot="x"), num_workers=0)
    assert said.photos["photo"].tolist() == rows["path"].tolist()
    assert said.photos["shot"].eq("x").all()
    assert said.codes.tolist() == FACE.encode({task: said.probs[task].argmax(1) for task in FACE.names}).tolist()


def test_targets_of_other_labels_and_lost_photos_are_refused(make_checkpoint, rows: pd.DataFrame) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    with pytest.raises(LabelError, match="targets of gender below 2, found 2"):
        predict(trained, rows.assign(gender=2), num_workers=0)
    Path(rows["path"][1]).unlink()
    with pytest.raises(PhotoError, match=r"a1\.png, found none"):
        predict(trained, rows, num_workers=0)


def test_several_networks_say_what_each_says_alone_and_each_photo_is_decoded_once(
    make_checkpoint, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [load_trained(make_checkpoint(f"{seed}.ckpt", seed=seed), CPU) for seed in range(3)]
    other = replace(networks[0], spec=replace(networks[0].spec, size=48))
    alone = [predict(network, rows, num_workers=0) for network in (*networks, other)]
    opened: list[str] = []
    monkeypatch.setattr(views, "open_photo", lambda path: opened.append(path) or open_photo(path))
    together = predict_many([networks[0], other, *networks[1:]], rows, batch_size=2, num_workers=0)
    assert sorted(opened) == sorted([*rows["path"], *rows["path"]])  # two TransformSpecs
    for said, want in zip(together, [alone[0], alone[3], alone[1], alone[2]], strict=True):
        assert said.sources == want.sources
        for task in FACE.names:
            np.testing.assert_allclose(said.probs[task], want.probs[task], atol=1e-6)


def test_a_photo_that_breaks_in_a_worker_is_told_in_one_line(make_checkpoint, rows: pd.DataFrame) -> None:
    Path(rows["path"][1]).write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"^cannot decode \S*a1\.png[^\n]*$"):
        predict(load_trained(make_checkpoint(), CPU), rows, num_workers=1)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_flip_averages_the_probabilities_of_photo_and_mirror_image(
    make_checkpoint, rows: pd.DataFrame, tmp_path: Path, batch_size: int
) -> None:
    mirrored = []
    for i, path in enumerate(rows["path"]):
        mirrored.append(str(tmp_path / f"{i}.png"))
        Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored[-1])
    trained = load_trained(make_checkpoint(), CPU)
    plain, other = (predict(trained, each, num_workers=0) for each in (rows, rows.assign(path=mirrored)))
    said = predict(trained, rows.assign(age=1), tta="flip", batch_size=batch_size, num_workers=0)
    for task in FACE.names:
        np.testing.assert_allclose(said.probs[task], (plain.probs[task] + other.probs[task]) / 2, atol=1e-6)
    np.testing.assert_allclose(said.losses["age"], -np.log(said.probs["age"][:, 1]), rtol=1e-4)


@pytest.mark.gpu
def test_a_gpu_says_the_same(make_checkpoint, rows: pd.DataFrame) -> None:
    checkpoint = make_checkpoint()
    on_cpu, on_gpu = (
        predict(load_trained(checkpoint, torch.device(device)), rows, num_workers=0) for device in ("cpu", "cuda")
    )
    for task in FACE.names:
        np.testing.assert_allclose(on_gpu.probs[task], on_cpu.probs[task], atol=2e-3)
