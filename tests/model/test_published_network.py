"""A published checkpoint, imported, against the published network in its plain form and in float64."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.published_network import PublishedNetwork
from model import FSSModel, load_model
from model.import_published import main as import_published
from model.loss import dice_loss
from tests import golden
from util.errors import UserError

UNUSED = 1_358_256

Cluster = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def published_state() -> dict[str, Tensor]:
    """Made-up weights under the published names; the last norm of the deep stem is wider than those of the blocks."""
    layout = PublishedNetwork().state_dict()
    return {name: golden.weight(name.replace("body.bn3", "body.bnx"), value.shape) for name, value in layout.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``published.pth``, a checkpoint as the published code writes it, and ``imported.pth``."""
    path = tmp_path_factory.mktemp("published")
    state = {f"module.{name}": value for name, value in published_state().items()}
    torch.save({"epoch": 17, "state_dict": state, "optimizer": {"state": {}}}, path / "published.pth")
    import_published([str(path / "published.pth"), str(path / "imported.pth")])
    return path


@pytest.fixture(scope="module")
def ours(folder: Path) -> FSSModel:
    return load_model(folder / "imported.pth")


@pytest.fixture(scope="module")
def plain() -> PublishedNetwork:
    network = PublishedNetwork()
    network.load_state_dict(published_state())
    return network.double().eval()


def episode(shots: int) -> list[Tensor]:
    """Two episodes at 97 pixels with void and padded pixels, one support without an object."""
    generator = torch.Generator().manual_seed(shots)
    query = torch.randn(2, 3, 97, 97, generator=generator)
    supports = torch.randn(2, shots, 3, 97, 97, generator=generator)
    masks = torch.zeros(2, shots, 97, 97, dtype=torch.int64)
    masks[0, :, 20:60, 10:70] = 1
    masks[0, :, 60:64] = 255
    masks[1, 0, 40:97] = 1
    query_padding, support_padding = torch.zeros(2, 97, 97).bool(), torch.zeros(2, shots, 97, 97).bool()
    query_padding[0, 80:] = True
    support_padding[:, 0, :, 85:] = True
    return [query, supports, masks, query_padding, support_padding]


@pytest.mark.parametrize("shots", [1, 5])
def test_logits_and_what_leads_to_them_are_the_published_ones(
    ours: FSSModel, plain: PublishedNetwork, monkeypatch: pytest.MonkeyPatch, shots: int
) -> None:
    assignments: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(ours, "cluster", recording(ours.cluster, assignments))
    seen = watch(ours, ["merge_query", "merge_support", "classifier.0", "query_transformer.layers.1.norms.3"])
    logits = ours(*episode(shots))
    replay = iter(assignments)
    monkeypatch.setattr(plain, "cluster", lambda features, k: next(replay))
    names = ["qry_merge_feat", "supp_merge_feat", "classifier.0", "transformer.layer_norms.7"]
    expected_seen = watch(plain, names)
    query, supports, *masks = episode(shots)
    expected = plain(query.double(), supports.double(), *masks)
    assert next(replay, None) is None
    assert golden.relative_error(logits, expected) < 2e-4
    merged_shots = torch.stack(expected_seen["supp_merge_feat"], dim=1).flatten(0, 1)
    assert golden.relative_error(seen["merge_support"][0], merged_shots) < 2e-5
    for name, expected_name in (("merge_query", names[0]), ("classifier.0", names[2]), (list(seen)[-1], names[3])):
        assert golden.relative_error(seen[name][0], expected_seen[expected_name][0]) < 1e-4


def test_every_parameter_gets_a_gradient_and_the_backbone_none(folder: Path) -> None:
    model = load_model(folder / "imported.pth").train()
    inputs = episode(1)
    dice_loss(model(*inputs), inputs[2][:, 0]).backward()
    trained = {name: p for name, p in model.named_parameters() if not name.startswith("backbone.")}
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None for p in model.backbone.parameters())
    published = sum(p.numel() for p in PublishedNetwork().parameters() if p.requires_grad)
    assert sum(p.numel() for p in trained.values()) == published - UNUSED


def test_what_is_not_used_is_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(published_state()) == 353
    import_published([str(folder / "published.pth"), str(tmp_path / "again.pth")])
    assert (
        f"27 tensors ({UNUSED:,} numbers) that the published network never uses are left out" in capsys.readouterr().err
    )


def test_the_import_keeps_the_epoch_and_sets_compat(folder: Path) -> None:
    checkpoint = torch.load(folder / "imported.pth", weights_only=True)
    assert checkpoint["epoch"] == 17
    assert checkpoint["config"]["TRAIN"]["compat"] == "published"


def test_an_incomplete_checkpoint_is_named(folder: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(folder / "published.pth", weights_only=True)
    del checkpoint["state_dict"]["module.transformer.cross_layers.1.proj.weight"]
    checkpoint["state_dict"]["module.surprise.weight"] = torch.zeros(3)
    torch.save(checkpoint, tmp_path / "part.pth")
    message = r"part\.pth: .*\(\S*layers\.1\.cross_attention\.output_projection\.weight is absent .*'surprise"
    with pytest.raises(UserError, match=message):
        import_published([str(tmp_path / "part.pth"), str(tmp_path / "out.pth")])
    assert not (tmp_path / "out.pth").exists()


def test_loading_it_without_importing_says_what_to_do(folder: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"a checkpoint of the published code; convert .*model\.import_published .* TRAIN\.compat=published",
    ):
        load_model(folder / "published.pth")


def test_what_is_ours_is_not_imported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imported\.pth: already a checkpoint of this software"):
        import_published([str(folder / "imported.pth"), str(tmp_path / "out.pth")])


@pytest.mark.slow
def test_a_published_checkpoint_with_nan_is_not_imported(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "published.pth", weights_only=True)
    content["state_dict"]["module.classifier.3.bias"][0] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"nan\.pth: weights are not finite: 1 of .* classifier\.3\.bias"):
        import_published([str(tmp_path / "nan.pth"), str(tmp_path / "out.pth")])


def test_a_published_checkpoint_may_hold_values_of_numpy_and_paths(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "published.pth", weights_only=True)
    values = {"epoch": np.int64(18), "args": {"path": tmp_path, "mean": np.zeros(3)}}
    torch.save({**content, **values}, tmp_path / "typed.pth")
    import_published([str(tmp_path / "typed.pth"), str(tmp_path / "out.pth")])
    assert torch.load(tmp_path / "out.pth", weights_only=True)["epoch"] == 18


def recording(cluster: Cluster, assignments: list[tuple[Tensor, Tensor]]) -> Cluster:
    """``cluster`` that notes its results."""

    def recorded(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        assignments.append(cluster(features, k))
        return assignments[-1]

    return recorded


def watch(network: nn.Module, names: list[str]) -> dict[str, list[Tensor]]:
    """What the submodules of these names return, from now on."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen[name].append(output))
    return seen
