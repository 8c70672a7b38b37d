"""MoCo-v2 pretraining: the loss, the key encoder, the queue, and a command that resumes to the same bits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor
from torch.nn import functional

import masks.pretrain.__main__
import masks.pretrain.training
import masks.pretrain.unlabelled_images
from masks.pretrain.moco import Encoder, MoCo, contrast_logits
from masks.pretrain.training import check_settings, cosine_lr
from masks.pretrain.views import TwoViews, ViewLoader
from tests.masks.pretrain.pretraining import TINY, SmallBackbone, build_without_batch_norm, run, same
from util.errors import UserError


@pytest.fixture
def moco() -> MoCo:
    torch.manual_seed(0)
    encoder = Encoder(SmallBackbone(), channels=[4, 5, 6], hidden=8, embedding=5)
    return MoCo(encoder, queue=7, momentum=0.9, temperature=0.2)


def pixels(seed: int, images: int = 4) -> Tensor:
    return torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_loss_equals_info_nce_of_the_paper() -> None:
    random = torch.Generator().manual_seed(1)
    queries, keys = (functional.normalize(torch.randn(3, 5, generator=random), dim=1) for _ in range(2))
    queue = functional.normalize(torch.randn(6, 5, generator=random), dim=1)
    expected = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        similarity = [
            math.exp(sum(a * b for a, b in zip(query, other, strict=True)) / 0.2) for other in [key, *queue.tolist()]
        ]
        expected -= math.log(similarity[0] / sum(similarity)) / 3
    loss = functional.cross_entropy(contrast_logits(queries, keys, queue, 0.2), torch.zeros(3, dtype=torch.long))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_key_encoder_is_the_moving_average_of_the_query_encoder(moco: MoCo) -> None:
    start = [parameter.clone() for parameter in moco.key_encoder.parameters()]
    with torch.no_grad():
        for parameter in moco.query_encoder.parameters():
            parameter.add_(1)
    for _ in range(3):
        moco.update_key_encoder()
    for before, key in zip(start, moco.key_encoder.parameters(), strict=True):
        torch.testing.assert_close(key, before + (1 - 0.9**3))


def test_queue_replaces_the_oldest_and_wraps(moco: MoCo) -> None:
    before = moco.queue.clone()
    first, second = torch.ones(4, 5), torch.full((4, 5), 2.0)
    moco.enqueue(first)
    assert torch.equal(moco.queue, torch.cat([first, before[4:]])) and moco.pointer == 4
    moco.enqueue(second)
    assert torch.equal(moco.queue, torch.cat([second[3:], first[1:], second[:3]])) and moco.pointer == 1


def test_only_the_query_encoder_learns(moco: MoCo) -> None:
    moco.train()
    logits = moco(pixels(0), pixels(1))
    functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long)).backward()
    assert logits.shape == (4, 8)
    assert all(parameter.grad is not None for parameter in moco.query_encoder.parameters())
    assert all(parameter.grad is None for parameter in moco.key_encoder.parameters())
    assert not moco.queue.requires_grad


def test_keys_come_back_in_the_order_of_the_images(moco: MoCo) -> None:
    moco.eval()  # fixed statistics: the groups change nothing but the order they are computed in
    images = pixels(2, images=8)
    torch.testing.assert_close(moco.keys(images), moco.key_encoder(images))
    torch.testing.assert_close(moco.keys(images).norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("images", [2, 3, 7, 10, 13])
def test_no_image_is_normalised_alone(moco: MoCo, images: int) -> None:
    """Batch statistics of one image do not exist: batches of 7 once left one over."""
    moco.train()
    assert moco.keys(pixels(3, images)).shape == (images, 5)


def test_learning_rate_falls_along_half_a_cosine() -> None:
    rates = [cosine_lr(0.06, step, 4) for step in range(5)]
    assert rates == pytest.approx([0.06, 0.03 * (1 + math.sqrt(0.5)), 0.03, 0.03 * (1 - math.sqrt(0.5)), 0])


@pytest.mark.parametrize("workers", [0, 1])
def test_views_are_functions_of_seed_and_epoch(workers: int) -> None:
    images = [np.random.default_rng(index).integers(256, size=(40, 70, 3), dtype=np.uint8) for index in range(6)]
    views = TwoViews(images, size=32, seed=3)
    epochs = [torch.cat(list(ViewLoader(views, epoch=epoch, batch=2, workers=workers))) for epoch in (0, 1)]
    again = torch.cat(list(ViewLoader(TwoViews(images, size=32, seed=3), epoch=0, batch=3, workers=0)))
    assert epochs[0].shape == (6, 2, 32, 32, 3) and epochs[0].dtype == torch.uint8
    assert torch.equal(epochs[0], again)
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[0][:, 0], epochs[0][:, 1])


def test_result_opens_strictly_in_timm(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    weights = run(folder, out)
    timm.create_model(TINY.model, features_only=True, output_stride=8).load_state_dict(weights, strict=True)
    with safetensors.safe_open(out, framework="pt") as stream:
        assert '"model": "mobilenetv2_050"' in stream.metadata()["record"]
        assert '"dataset_digest"' in stream.metadata()["record"] and "timm" in stream.metadata()["software"]
    assert out.stat().st_size < 4e6
    assert not out.with_suffix(".partial.pth").exists()


@pytest.mark.slow
def test_seed_decides_the_weights(folder: Path, tmp_path: Path) -> None:
    first = run(folder, tmp_path / "1.safetensors")
    assert same(first, run(folder, tmp_path / "2.safetensors", workers=1))
    assert not same(first, run(folder, tmp_path / "3.safetensors", replace(TINY, seed=6)))


@pytest.mark.slow
def test_interrupted_run_continues_to_the_same_weights(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(folder, tmp_path / "whole.safetensors")
    out = tmp_path / "parts.safetensors"
    request.getfixturevalue("stop_after_first_epoch")
    with pytest.raises(KeyboardInterrupt):
        run(folder, out)
    assert out.with_suffix(".partial.pth").exists() and not out.exists()
    message = r"parts\.partial\.pth: made with other settings \(lr is 0\.01 there, 0\.02 expected\); delete it"
    with pytest.raises(UserError, match=message):
        run(folder, out, replace(TINY, lr=0.02))
    monkeypatch.undo()
    assert same(whole, run(folder, out))


@pytest.mark.parametrize("kept_in_memory", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_named_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in_memory: bool, workers: int
) -> None:
    (folder / "8.png").write_bytes(b"no image")
    if not kept_in_memory:
        monkeypatch.setattr(masks.pretrain.unlabelled_images, "MEMORY_LIMIT", 0)
    with pytest.raises(UserError, match=r"^.*8\.png: not a readable image[^\n]*$"):
        run(folder, tmp_path / "weights.safetensors", workers=workers)


def test_images_on_disk_give_the_same_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = run(folder, tmp_path / "kept.safetensors")
    monkeypatch.setattr(masks.pretrain.unlabelled_images, "MEMORY_LIMIT", 0)
    assert same(kept, run(folder, tmp_path / "read.safetensors"))


def test_large_images_are_reduced(folder: Path) -> None:
    images = masks.pretrain.unlabelled_images.open_images(
        masks.pretrain.unlabelled_images.find_images(folder, None), shorter_side=25
    )
    assert {image.shape for image in images} == {(25, 30, 3)}


def test_hidden_files_of_a_folder_are_no_images(folder: Path) -> None:
    images = masks.pretrain.unlabelled_images.find_images(folder, None)
    for hidden in (folder / "deeper" / "._1.png", folder / ".previews" / "1.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(b"no image")
    assert masks.pretrain.unlabelled_images.find_images(folder, None) == images


def test_list_file_names_the_images(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "train.txt"
    listed.write_text("0.png\ndeeper/1.png labels/1.png\n")
    assert masks.pretrain.unlabelled_images.find_images(listed, folder) == [folder / "0.png", folder / "deeper/1.png"]
    with pytest.raises(UserError, match=r"train\.txt: a list file needs --root"):
        masks.pretrain.unlabelled_images.find_images(listed, None)


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--model", "resnet5000"], "--model resnet5000: timm has no such model"),
        (["--epochs", "0"], "--epochs: 0 is not a number from 1 to"),
        (["--batch", "1"], "--batch: 1 is not a number from 2 to"),
        (["--batch", "1_0"], "--batch: '1_0' is not a number from 2 to"),
        (["--size", "100000"], "--size: 100000 is not a number from 32 to 2048"),
        (["--queue", "9" * 5000], r"--queue: '9+\.\.\.9+' is not a number from 1 to"),
        (["--seed=-1"], "--seed: -1 is not a number from 0 to"),
        (["--workers", "-1"], "--workers: -1 is not a number from 0 to 512"),
        (["--lr", "0"], "--lr: '0' is not a number between 0 and 1000"),
        (["--lr", "nan"], "--lr: 'nan' is not a number between 0 and 1000"),
        ([], "9 images are fewer than a batch of 64"),
    ],
)
def test_impossible_settings_are_refused(folder: Path, tmp_path: Path, command_line: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        masks.pretrain.__main__.main([str(folder), str(tmp_path / "weights.safetensors"), *command_line])


def test_missing_images_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "weights.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no image in it"):
        masks.pretrain.__main__.main([str(tmp_path / "empty"), out])
    with pytest.raises(UserError, match="absent: no such folder or list file"):
        masks.pretrain.__main__.main([str(tmp_path / "absent"), out])


def test_loss_that_is_not_finite_stops_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks.pretrain.training, "_TEMPERATURE", 0.0)
    with pytest.raises(UserError, match="the loss is nan"):
        run(folder, tmp_path / "weights.safetensors")


def test_bfloat16_is_finite_and_close(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: dict[str, list[float]] = {"fp32": [], "bf16": []}
    train_step = masks.pretrain.training._train_step

    def recorded(moco: MoCo, optimizer: torch.optim.Optimizer, views: Tensor, precision: str) -> tuple[float, float]:
        loss, hit = train_step(moco, optimizer, views, precision)
        assert moco.queue.dtype == torch.float32
        losses[precision].append(loss)
        return loss, hit

    monkeypatch.setattr(masks.pretrain.training, "_train_step", recorded)
    monkeypatch.setattr(
        masks.pretrain.training, "_build", build_without_batch_norm
    )  # of four images it would amplify rounding
    exact = run(folder, tmp_path / "fp32.safetensors", replace(TINY, precision="fp32"))
    short = run(folder, tmp_path / "bf16.safetensors", replace(TINY, precision="bf16"))
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.03)
    assert {name: value.dtype for name, value in exact.items()} == {name: value.dtype for name, value in short.items()}
    assert all(value.isfinite().all() for value in short.values())


def test_what_follows_the_encoders_is_float32_under_autocast(moco: MoCo) -> None:
    moco.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = moco(pixels(0), pixels(1))
        queries = moco.query_encoder(pixels(0))
    assert logits.dtype == moco.queue.dtype == queries.dtype == torch.float32
    torch.testing.assert_close(queries.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_the_processes_are_the_batches_of_one(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    images = [np.random.default_rng(index).integers(256, size=(40, 70, 3), dtype=np.uint8) for index in range(15)]
    views = TwoViews(images, size=32, seed=3)
    whole = list(ViewLoader(views, epoch=1, batch=6, workers=0))
    monkeypatch.setattr(masks.pretrain.views, "world_size", lambda: processes)
    shares = []
    for own_rank in range(processes):
        monkeypatch.setattr(masks.pretrain.views, "rank", lambda own_rank=own_rank: own_rank)
        shares.append(list(ViewLoader(views, epoch=1, batch=6, workers=0)))
    assert len(whole) == 2
    assert all(torch.equal(batch, torch.cat(parts)) for batch, *parts in zip(whole, *shares, strict=True))


@pytest.mark.parametrize(("batch", "processes"), [(64, 3), (4, 4)])
def test_batch_that_processes_cannot_share_is_refused(
    monkeypatch: pytest.MonkeyPatch, batch: int, processes: int
) -> None:
    monkeypatch.setattr(masks.pretrain.training, "world_size", lambda: processes)
    with pytest.raises(UserError, match=f"--batch {batch}: {processes} processes need a multiple of {processes}, at"):
        check_settings(replace(TINY, batch=batch))


def test_memory_that_runs_out_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(masks.pretrain.training, "_train_step", refuse)
    with pytest.raises(UserError, match=r"^memory ran out; decrease --batch, or --size$"):
        run(folder, tmp_path / "out.safetensors")
