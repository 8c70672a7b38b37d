"""Checkpoints and shared folders that are damaged, incomplete, hostile or something else: one line each, no numbers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import predict as predict_command
from commands.meta_test import build_method
from commands.meta_training import initial_model
from engine.optimizers import build_optimizers
from model import FSSModel, load_model
from model.checkpoints import CHECKPOINT_VERSION, load_weights, provenance, read_network
from tests.model.networks import SETTINGS
from util.config import load_config
from util.errors import UserError
from util.images import write_image, write_label
from util.tensor_files import write_torch_file

NETWORK = SETTINGS.model_dump(mode="json")
# A run of these settings reads the checkpoint, but for what the case has changed.
OVERRIDES = [
    *(f"TRAIN.{key}={str(value).replace(' ', '')}" for key, value in NETWORK.items()),
    *("TRAIN.train_h=65", "TRAIN.train_w=65", "TRAIN.backbone_weights="),
]

Content = dict[str, Any]
Change = Callable[[Content], Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``latest.pth``, a whole checkpoint, and ``shared``, the same network as a folder."""
    folder = tmp_path_factory.mktemp("sound")
    torch.manual_seed(0)
    model = FSSModel.from_settings(SETTINGS, backbone_weights=None)
    rates = {"base_lr": 0.1, "transformer_lr": 1e-4, "transformer_weight_decay": 0.01}
    optimizers = build_optimizers(model, momentum=0.9, weight_decay=1e-4, **rates)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizers.step()
    write_torch_file(
        folder / "latest.pth",
        {
            "version": CHECKPOINT_VERSION,
            "network": NETWORK,
            "config": {"dataset": "shapes", "experiment": "ssl_demo", "DATA": {}, "TRAIN": NETWORK},
            "model": model.state_dict(),
            "optimizers": optimizers.state_dict(),
            "epoch": 3,
            "best_miou": 0.5,
            "label_use": "none",
        },
    )
    load_model(folder / "latest.pth").save_pretrained(folder / "shared")
    return folder


def refusal(action: Callable[[], object], named: str = "") -> str:
    """The one line with which ``action`` is refused; it matches ``named``."""
    with pytest.raises(UserError, match=named) as mistake:
        action()
    message = str(mistake.value)
    assert "\n" not in message and len(message) < 1000
    return message


def without(*keys: str) -> Change:
    def change(content: Content) -> None:
        *path, last = keys
        for key in path:
            content = content[key]
        del content[last]

    return change


def put(value: object, *keys: str) -> Change:
    def change(content: Content) -> None:
        *path, last = keys
        for key in path:
            content = content[key]
        content[last] = value

    return change


def poisoned(name: str, value: float) -> Change:
    def change(content: Content) -> None:
        tensor = content["model"][name]
        tensor[(-1,) * tensor.dim()] = value

    return change


WEIGHT = "classifier.0.weight"
# What is wrong with the content of a checkpoint, and what the line names.
CONTENTS: dict[str, tuple[Change, str]] = {
    "no model": (without("model"), "model: Field required"),
    "no config": (without("config"), "config: Field required"),
    "no dataset": (without("config", "dataset"), r"config\.dataset: Field required"),
    "no experiment": (without("config", "experiment"), r"config\.experiment: Field required"),
    "no TRAIN": (without("config", "TRAIN"), r"config\.TRAIN: Field required"),
    "no epoch": (without("epoch"), "epoch: Field required"),
    "no label_use": (without("label_use"), "label_use: Field required"),
    "no version": (without("version"), "not a checkpoint of this software"),
    "old version": (put(1, "version"), "a checkpoint of format 1, this software reads format 2"),
    "later version": (put(3, "version"), "a checkpoint of format 3"),
    "version is text": (put("2", "version"), "not a checkpoint of this software"),
    "model is None": (put(None, "model"), "model: .* dictionary"),
    "model is a list": (put([torch.zeros(1)], "model"), "model: .* dictionary"),
    "model holds text": (put("x", "model", WEIGHT), r"model\.classifier\.0\.weight: .* Tensor"),
    "model holds numbers as names": (lambda content: content["model"].update({3: torch.zeros(1)}), "model.3.* string"),
    "model is empty": (put({}, "model"), "holds tensors of another network"),
    "config is None": (put(None, "config"), "config: "),
    "config is text": (put("shapes", "config"), "config: "),
    "DATA is a list": (put([], "config", "DATA"), r"config\.DATA: "),
    "epoch is text": (put("3", "epoch"), "epoch: .* integer"),
    "epoch is negative": (put(-1, "epoch"), "epoch: .* greater than or equal to 0"),
    "epoch is NaN": (put(float("nan"), "epoch"), "epoch: "),
    "label_use is a number": (put(0, "label_use"), "label_use: .* string"),
    "label_use is a tensor": (put(torch.zeros(1), "label_use"), "label_use: .* string"),
    "best_miou is text": (put("high", "best_miou"), "best_miou: .* number"),
    "optimizers is a list": (put([], "optimizers"), "optimizers: .* dictionary"),
    "network is a list": (put([], "network"), "network: .* dictionary"),
    "network lacks width": (without("network", "hidden_dims"), "hidden_dims: Field required"),
    "network has more": (put(1, "network", "colour"), "colour: Extra inputs"),
    "network of a huge width": (put(8_000_000, "network", "hidden_dims"), "hidden_dims: .* less than or equal"),
    "network of another width": (put(4096, "network", "hidden_dims"), "holds tensors of another network"),
    "network of an odd width": (put(17, "network", "hidden_dims"), "hidden_dims: .* multiple of 8"),
    "network of no width": (put(0, "network", "hidden_dims"), "hidden_dims: "),
    "network of many prototypes": (put(10**9, "network", "object_prototypes"), "object_prototypes: .* less than"),
    "network of no prototypes": (put(0, "network", "background_prototypes"), "background_prototypes: .* greater than"),
    "network of huge images": (put(10**7 + 1, "network", "val_size"), "val_size: "),
    "network of another side": (put(64, "network", "val_size"), r"TRAIN\.val_size=64: sides must be 1 more"),
    "unknown backbone": (put("resnet_of_mine", "network", "backbone"), "timm has no such model"),
    "backbone is None": (put(None, "network", "backbone"), "backbone: .* string"),
    "another backbone": (put("mobilenetv2_050", "network", "backbone"), "holds tensors of another network"),
    "unknown normalisation": (put("grey", "network", "backbone_normalize"), "backbone_normalize: "),
    "unknown compat": (put("theirs", "network", "compat"), "compat: "),
    "no stages": (put([], "network", "mid_stages"), "mid_stages: "),
    "a stage that is not there": (put([9], "network", "mid_stages"), "stages 0 to 4"),
    "high stage is not there": (put(50, "network", "high_stage"), "stages 0 to 4"),
    "a tensor is missing": (without("model", WEIGHT), "classifier.0.weight is absent there"),
    "a tensor too many": (put(torch.zeros(1), "model", "more"), "'more' is unexpected"),
    "a name on two lines": (put(torch.zeros(1), "model", "more\nand more"), "unexpected"),
    "another shape": (put(torch.zeros(2, 2), "model", WEIGHT), r"is float32 \(2, 2\) there, float32 \(16, 16, 3, 3\)"),
    "no axes": (put(torch.zeros(()), "model", "adjust_query.0.weight"), "holds tensors of another network"),
    "whole numbers": (lambda content: put(content["model"][WEIGHT].int(), "model", WEIGHT)(content), "int32"),
    "complex numbers": (lambda content: put(content["model"][WEIGHT] + 1j, "model", WEIGHT)(content), "complex64"),
    "sparse": (lambda content: put(content["model"][WEIGHT].to_sparse(), "model", WEIGHT)(content), "another network"),
    "on no device": (lambda content: put(content["model"][WEIGHT].to("meta"), "model", WEIGHT)(content), "another net"),
    "claims to be huge": (put(torch.zeros(1).expand(10**12), "model", WEIGHT), r"\(1000000000000,\) there"),
    "NaN": (poisoned(WEIGHT, float("nan")), "weights are not finite: 1 of .* classifier.0.weight"),
    "infinity": (poisoned("query_transformer.layers.0.norms.0.bias", float("inf")), "weights are not finite"),
    "minus infinity": (poisoned("merge_query.convolution.weight", float("-inf")), "weights are not finite"),
    "NaN in the backbone": (poisoned("backbone.network.conv_stem.weight", float("nan")), "weights are not finite"),
    "too large for float32": (
        lambda content: put(content["model"][WEIGHT].double() * 1e300, "model", WEIGHT)(content),
        "weights are not finite",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_content_that_is_not_as_written_is_refused(sound: Path, tmp_path: Path, case: str) -> None:
    change, named = CONTENTS[case]
    content = torch.load(sound / "latest.pth", weights_only=True)
    change(content)
    write_torch_file(tmp_path / "c.pth", content)
    assert refusal(lambda: load_model(tmp_path / "c.pth"), named).startswith(f"{tmp_path}/c.pth: ")


def drop_average(state: Content) -> None:
    next(iter(state["adamw"]["state"].values())).pop("exp_avg_sq")


def spoil_average(state: Content) -> None:
    next(iter(state["sgd"]["state"].values()))["momentum_buffer"].view(-1)[0] = float("nan")


OPTIMIZERS: dict[str, Callable[[Content], Any]] = {
    "nothing": lambda state: state.clear(),
    "only sgd": lambda state: state.pop("adamw"),
    "no state": lambda state: state["sgd"].pop("state"),
    "no groups": lambda state: state["adamw"].pop("param_groups"),
    "fewer groups": lambda state: state["adamw"]["param_groups"].pop(),
    "another number of parameters": lambda state: state["sgd"]["param_groups"][0]["params"].pop(),
    "a group that is none": lambda state: state["sgd"].update(param_groups=[3]),
    "no rate": lambda state: state["adamw"]["param_groups"][0].pop("lr"),
    "a rate of text": lambda state: state["adamw"]["param_groups"][0].update(lr="fast"),
    "no averages": lambda state: state["sgd"]["state"].clear(),
    "one average": drop_average,
    "averages of one parameter": lambda state: state["adamw"]["state"].popitem(),
    "averages of another shape": lambda state: state["sgd"]["state"][0].update(momentum_buffer=torch.zeros(2)),
    "averages that are none": lambda state: state["sgd"]["state"].update({0: "x"}),
    "averages that are not finite": spoil_average,
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_a_training_is_not_continued_from_another_state_of_the_optimizers(sound: Path, case: str) -> None:
    content = torch.load(sound / "latest.pth", weights_only=True)
    model = FSSModel.from_settings(SETTINGS, backbone_weights=None)
    rates = {"base_lr": 0.1, "transformer_lr": 1e-4, "transformer_weight_decay": 0.01}
    optimizers = build_optimizers(model, momentum=0.9, weight_decay=1e-4, **rates)
    optimizers.load_stored(content["optimizers"], sound / "latest.pth")  # sound before the change
    OPTIMIZERS[case](content["optimizers"])
    message = refusal(lambda: optimizers.load_stored(content["optimizers"], sound / "latest.pth"))
    assert "latest.pth: cannot be continued, its state of " in message and "TRAIN.weight=" in message


def write_numpy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def write_jit(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def make_sparse(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)


# What may stand at the path instead of a checkpoint, and what the line names.
OTHER_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "no checkpoint here; train.sh writes them"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "no checkpoint here; train.sh writes them"),
    "a folder": (lambda path: path.mkdir(), r"config\.json is missing"),
    "a pipe": (os.mkfifo, "a device or a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device or a pipe"),
    "an empty file": (lambda path: path.touch(), r"it is empty\); copy it again"),
    "one byte": (lambda path: path.write_bytes(b"P"), "neither a torch nor a safetensors file"),
    "zeros": (lambda path: make_sparse(path, b"", 1 << 30), "neither a torch nor a safetensors file"),
    "a huge file": (lambda path: make_sparse(path, b"PK\3\4", 1 << 42), "more than the .* of this machine's memory"),
    "zeros after the mark of an archive": (lambda path: make_sparse(path, b"PK\3\4", 1 << 32), "damaged or cut short"),
    "zeros after the mark of a pickle": (lambda path: make_sparse(path, b"\x80\2", 1 << 32), "damaged or cut short"),
    "a web page": (lambda path: path.write_text("\n<!DOCTYPE html><html></html>"), "a web page.*fetch the file that"),
    "a pointer of LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "an index in JSON": (lambda path: path.write_text('{"weight_map": {}}'), "JSON"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(50)), r"an archive\); unpack it"),
    "tar": (lambda path: path.write_bytes(b"a" * 257 + b"ustar" + bytes(100)), r"an archive\); unpack it"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
    "an array": (write_numpy, "an array of NumPy"),
    "arrays": (lambda path: shutil.move(_savez(path), path), "a zip archive that torch did not write"),
    "TorchScript": (write_jit, "a TorchScript program"),
    "a list": (lambda path: torch.save([1, 2], path), "expected a dictionary of tensors, found list"),
    "a tensor": (lambda path: torch.save(torch.zeros(2), path), "expected a dictionary of tensors, found Tensor"),
    "a whole network": (lambda path: torch.save(torch.nn.Linear(2, 2), path), r"torch\.nn\.modules\.linear\.Linear"),
    "a header longer than the file": (lambda path: path.write_bytes(bytes([99, *[0] * 7]) + b"{}"), "cut short"),
    "a header of claims": (
        lambda path: _write_header(path, {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        "cut short",
    ),
}


def _savez(path: Path) -> Path:
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    return path.with_suffix(".npz")


def _write_header(path: Path, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize("case", OTHER_FILES)
def test_what_is_no_checkpoint_is_named_for_what_it_is(tmp_path: Path, case: str) -> None:
    make, named = OTHER_FILES[case]
    make(tmp_path / "c.pth")
    assert refusal(lambda: load_model(tmp_path / "c.pth"), named).startswith(f"{tmp_path}/c.pth: ")


def config_json(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no settings": (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors: weights not found"),
    "empty settings": (lambda folder: (folder / "config.json").write_text(""), r"config\.json: not valid JSON"),
    "settings are a list": (
        lambda folder: (folder / "config.json").write_text("[1]"),
        "not of this software's format 1",
    ),
    "nested": (lambda folder: (folder / "config.json").write_text("[" * 10**5), "nested too deeply"),
    "binary": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\0"), r"config\.json: not valid JSON"),
    "another format": (config_json(format_version=2), "not of this software's format 1"),
    "no network": (config_json(network=None), "'network' is missing"),
    "another network": (config_json(network={**NETWORK, "object_prototypes": 28}), "not the settings that model"),
    "other labels": (config_json(label_use="all"), "not the settings that model"),
    "cut short": (lambda folder: _cut(folder / "model.safetensors"), r"model\.safetensors: .*cut short"),
    "a torch file": (
        lambda folder: torch.save({"a": torch.zeros(1)}, folder / "model.safetensors"),
        "holds tensors of another network",
    ),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("case", FOLDERS)
def test_shared_folders_that_are_not_as_written_are_refused(sound: Path, tmp_path: Path, case: str) -> None:
    damage, named = FOLDERS[case]
    shutil.copytree(sound / "shared", tmp_path / "shared")
    damage(tmp_path / "shared")
    assert str(tmp_path / "shared") in refusal(lambda: load_model(tmp_path / "shared"), named)


@pytest.mark.parametrize("name", ["latest.pth", "shared/model.safetensors", "shared/config.json"])
def test_a_flipped_bit_is_refused_or_changes_nothing(sound: Path, tmp_path: Path, name: str) -> None:
    """At 100 positions, half of them in the last part, where an archive has its table of contents."""
    root = tmp_path / name.split("/")[0]
    (shutil.copytree if name.startswith("shared") else shutil.copy)(sound / name.split("/")[0], root)
    expected = read_network(root)
    path, whole = tmp_path / name, (tmp_path / name).read_bytes()
    size, tail = len(whole), min(len(whole), 20_000)
    refused = 0
    for number in range(100):
        position = size * number // 50 if number < 50 else size - tail + tail * (number - 50) // 50
        damaged = bytearray(whole)
        damaged[position] ^= 1 << number % 8
        path.write_bytes(damaged)
        try:
            actual = read_network(root)
        except UserError:
            refused += 1
        else:
            assert (actual.settings, actual.origin) == (expected.settings, expected.origin)
            assert actual.tensors.keys() == expected.tensors.keys()
            assert all(torch.equal(actual.tensors[key], expected.tensors[key]) for key in expected.tensors)
    assert refused >= 60


@pytest.mark.parametrize("length", [1, 7, 8, 100, 10_000, -20_000, -22, -1])
@pytest.mark.parametrize("name", ["latest.pth", "shared/model.safetensors"])
def test_a_file_that_is_cut_short_is_refused(sound: Path, tmp_path: Path, name: str, length: int) -> None:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    assert "copy" in refusal(lambda: load_model(tmp_path / name.split("/")[0]))


def test_what_is_sound_is_loaded_with_its_origin(sound: Path) -> None:
    for path in (sound / "latest.pth", sound / "shared"):
        expected: dict[str, Tensor] = torch.load(sound / "latest.pth", weights_only=True)["model"]
        model = load_model(path)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
        origin = {"trained": "shapes ssl_demo, 3 epochs", "label_use": "none", "novel_images": "kept"}
        assert model.origin == origin and provenance(read_network(path)).items() >= origin.items()


@pytest.mark.parametrize(
    "case", ["no label_use", "no epoch", "NaN", "another shape", "network of a huge width", "config is None"]
)
def test_every_command_refuses_it(sound: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of training and testing the step that reads the checkpoint."""
    content = torch.load(sound / "latest.pth", weights_only=True)
    CONTENTS[case][0](content)
    path = tmp_path / "c.pth"
    write_torch_file(path, content)
    config = load_config("shapes", "ssl_demo", [*OVERRIDES, f"TRAIN.weight={path}"])
    write_image(tmp_path / "a.png", np.zeros((9, 9, 3), dtype=np.uint8))
    write_label(tmp_path / "mask.png", np.eye(9, dtype=np.uint8))
    image, mask, output = (str(tmp_path / name) for name in ("a.png", "mask.png", "output"))
    support = ["--support", image, mask, "--query", image, "--output", output]
    for action in (
        lambda: build_method(config, "network"),
        lambda: initial_model(config, None),
        lambda: predict_command.main(["--checkpoint", str(path), *support]),
    ):
        assert str(path) in refusal(action)


def test_a_shared_folder_starts_a_training_and_keeps_the_labels_it_used(sound: Path, tmp_path: Path) -> None:
    model = load_model(sound / "latest.pth")
    model.origin = {**model.origin, "label_use": "fold 2 training classes"}
    model.save_pretrained(tmp_path / "shared")
    config = load_config("shapes", "ssl_demo", [*OVERRIDES, f"TRAIN.weight={tmp_path / 'shared'}"])
    started, label_use = initial_model(config, None)
    assert label_use == "fold 2 training classes, none"
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in started.state_dict().items())


def test_the_words_that_are_missing_for_an_imported_checkpoint(sound: Path, tmp_path: Path) -> None:
    content = torch.load(sound / "latest.pth", weights_only=True)
    published = {"compat": "published", "support_self_attention": False, "contrast_residual": False}
    content["network"] |= {**published, "mid_stages": [-3, -2]}
    write_torch_file(tmp_path / "OUT.pth", content)
    model = FSSModel.from_settings(SETTINGS, backbone_weights=None)
    message = refusal(lambda: load_weights(model, read_network(tmp_path / "OUT.pth")))
    assert "add TRAIN.compat=published TRAIN.mid_stages=[-3,-2] (it comes from the published code by " in message
    assert "python -m model.import_published" in message
