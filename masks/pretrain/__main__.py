"""Self-supervised pretraining of a backbone on a folder of unlabelled images (MoCo-v2).

    python -m masks.pretrain IMAGES OUT.safetensors [--model mobilenetv2_050] [--epochs 200] ...
    torchrun --nproc_per_node 4 -m masks.pretrain IMAGES OUT.safetensors --batch 256 ...

The result opens with ``timm.create_model(MODEL, features_only=True, output_stride=8)``, for use as
``TRAIN.backbone_weights`` or ``Cluster.extractor_weights``; its images were normalised with ImageNet's mean and
standard deviation. An interrupted run continues when the same command is run again.

``--probe LIST`` reads labels, where there are some, to measure how good the features become (``masks.pretrain.probe``);
the weights are the same without it.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from episodes.closed_labels import closed_labels, read_pairs
from episodes.lists import read_list
from masks.pretrain.options import Precision, Settings
from util.arguments import Parser, number_between, whole_number
from util.errors import UserError, importing, run_command
from util.logging import start_logging
from util.processes import process_group

if TYPE_CHECKING:
    from masks.pretrain.probe import Probe

_PROBES = 10  # measurements in a run, unless --probe_every is given
# Upper bounds are far beyond any use.
_NUMBERS = {
    "epochs": whole_number(1, 10**6),
    "batch": whole_number(2, 10**5),
    "size": whole_number(32, 2048),
    "queue": whole_number(1, 10**6),
    "lr": number_between(0, 1000, "0.06"),
    "seed": whole_number(0, 2**63 - 1),
}


def main(arguments: list[str]) -> None:
    """The command ``python -m masks.pretrain``."""
    parsed = _parse(arguments)
    start_logging()
    settings = Settings(**{name: getattr(parsed, name) for name in asdict(Settings())})
    with process_group():
        with importing():
            from masks.pretrain.training import check_settings, pretrain
            from masks.pretrain.unlabelled_images import find_images
        check_settings(settings)
        with _closed_labels(parsed):
            paths = find_images(parsed.images, parsed.root)
            pretrain(paths, parsed.out, settings, workers=parsed.workers, probe=_probe(parsed, settings))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m masks.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of images (searched to any depth) or list file")
    parser.add_argument("out", type=_file, help="the weights, OUT.safetensors")
    parser.add_argument("--root", type=Path, help="where the paths of a list file start")
    parser.add_argument(
        "--workers", type=whole_number(0, 512), default=2, help="processes that draw views; default: %(default)s"
    )
    parser.add_argument("--probe", type=Path, metavar="LIST", help="labels that measure how good the features become")
    parser.add_argument("--probe_every", type=whole_number(1, 10**6), metavar="EPOCHS", help="default: a tenth of all")
    for name, default in asdict(Settings()).items():
        choices = get_args(Precision) if name == "precision" else None
        parser.add_argument(
            f"--{name}", type=_NUMBERS.get(name, str), default=default, choices=choices, help="default: %(default)s"
        )
    parsed = parser.parse_args(arguments)
    if parsed.probe is not None and parsed.root is None:
        raise UserError(f"--probe {parsed.probe}: needs --root, the folder where the list's paths start")
    return parsed


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text or '.'} is a folder, the name of a file expected")
    return path


def _closed_labels(parsed: argparse.Namespace) -> AbstractContextManager[None]:
    """Only ``--probe`` opens labels; a folder of images names none."""
    if parsed.root is None:
        return nullcontext()
    probed = [] if parsed.probe is None else read_pairs(parsed.probe, parsed.root)
    return closed_labels(parsed.root, read_pairs(parsed.images, parsed.root), opened=probed)


def _probe(parsed: argparse.Namespace, settings: Settings) -> Probe | None:
    if parsed.probe is None:
        return None
    with importing():
        from masks.pretrain.probe import Probe
    return Probe(
        read_list(parsed.probe, parsed.root, need_labels=True),
        shorter_side=2 * settings.size,
        every=parsed.probe_every or max(1, round(settings.epochs / _PROBES)),
        log=parsed.out.with_suffix(".probe.jsonl"),
    )


if __name__ == "__main__":
    run_command(main)
