"""One mistake at a time: what was typed or is in a file, and what the one line must name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from engine.results import RESULTS
from engine.scores import SCORES
from tests.mistakes.world import World, mistake

pytestmark = pytest.mark.slow

FEWEST = 250


class Word(NamedTuple):
    """A word added at the end of the sound command line ``command``; the line must match ``names``."""

    command: str
    word: str
    names: str


TRAIN_WORDS = [
    # Numbers that YAML reads otherwise, and what is no number
    ("TRAIN.epochs=0x10", r"TRAIN\.epochs"),
    ("TRAIN.epochs=0o17", r"TRAIN\.epochs"),
    ("TRAIN.epochs=1:30", r"TRAIN\.epochs"),
    ("TRAIN.epochs=true", r"TRAIN\.epochs"),
    ("TRAIN.epochs=yes", r"TRAIN\.epochs"),
    ("TRAIN.epochs=1_000", r"TRAIN\.epochs"),
    ("TRAIN.epochs=1.5", r"TRAIN\.epochs"),
    ("TRAIN.epochs=1e2", r"TRAIN\.epochs"),
    ("TRAIN.epochs=", r"TRAIN\.epochs"),
    ("TRAIN.epochs=null", r"TRAIN\.epochs"),
    ("TRAIN.epochs=[3]", r"TRAIN\.epochs"),
    ("TRAIN.epochs={a: 3}", r"TRAIN\.epochs"),
    ("TRAIN.epochs=2001-99-99", r"TRAIN\.epochs"),
    ("TRAIN.epochs=2001-01-01", r"TRAIN\.epochs"),
    ("TRAIN.epochs=0", r"TRAIN\.epochs"),
    ("TRAIN.epochs=-3", r"TRAIN\.epochs"),
    ("TRAIN.epochs=" + "9" * 5000, r"TRAIN\.epochs"),
    ("TRAIN.epochs=" + "[" * 3000, r"TRAIN\.epochs"),
    ("TRAIN.epochs=!!int x", r"TRAIN\.epochs"),
    ("TRAIN.epochs=!!timestamp x", r"TRAIN\.epochs"),
    ("TRAIN.epochs=!!python/name:os.system", r"TRAIN\.epochs"),
    ("TRAIN.epochs=&a 3", r"TRAIN\.epochs"),
    ("TRAIN.epochs=*a", r"TRAIN\.epochs"),
    ("TRAIN.epochs=&a [*a]", r"TRAIN\.epochs"),
    ("TRAIN.epochs=a: b: c", r"TRAIN\.epochs"),
    ("TRAIN.base_lr=fast", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=.inf", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=.nan", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=1e999", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=0", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=-0.1", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=true", r"TRAIN\.base_lr"),
    ("TRAIN.base_lr=0x", r"TRAIN\.base_lr"),
    ("TRAIN.warmup=2", r"TRAIN\.warmup"),
    ("TRAIN.warmup=perhaps", r"TRAIN\.warmup"),
    ("TRAIN.mid_stages=-2", r"TRAIN\.mid_stages"),
    ("TRAIN.mid_stages=[]", r"TRAIN\.mid_stages"),
    ("TRAIN.mid_stages=[a]", r"TRAIN\.mid_stages"),
    ("TRAIN.mid_stages=[-9]", r"mid_stages"),
    ("TRAIN.high_stage=99", r"high_stage"),
    # Sizes beyond any use
    ("TRAIN.train_h=1000001", r"TRAIN\.train_h"),
    ("TRAIN.train_h=64", r"TRAIN\.train_h|multiple"),
    ("TRAIN.train_h=-1", r"TRAIN\.train_h"),
    ("TRAIN.train_w=10000000000", r"TRAIN\.train_w"),
    ("TRAIN.val_size=100001", r"TRAIN\.val_size"),
    ("TRAIN.epoch_episodes=10000000000000", r"TRAIN\.epoch_episodes"),
    ("TRAIN.hidden_dims=8000000", r"TRAIN\.hidden_dims"),
    ("TRAIN.hidden_dims=12", r"TRAIN\.hidden_dims"),
    ("TRAIN.scale_max=1e9", r"TRAIN\.scale_max"),
    ("TRAIN.scale_min=0", r"TRAIN\.scale_min"),
    ("TRAIN.scale_max=0.1", r"TRAIN\.scale_max"),
    ("TRAIN.rotate_max=-20", r"TRAIN\.rotate_max"),
    ("TRAIN.rotate_max=1e300", r"TRAIN\.rotate_max"),
    ("TRAIN.batch_size=0", r"TRAIN\.batch_size"),
    ("TRAIN.batch_size=10000000000", r"TRAIN\.batch_size"),
    ("TRAIN.batch_size=64", r"TRAIN\.batch_size"),
    ("TRAIN.shot=0", r"TRAIN\.shot"),
    ("TRAIN.shot=51", r"TRAIN\.shot"),
    ("TRAIN.workers=-1", r"TRAIN\.workers"),
    ("TRAIN.workers=100000", r"TRAIN\.workers"),
    ("TRAIN.manual_seed=x", r"TRAIN\.manual_seed"),
    ("TRAIN.manual_seed=" + "1" * 40, r"TRAIN\.manual_seed"),
    ("TRAIN.object_prototypes=0", r"TRAIN\.object_prototypes"),
    ("TRAIN.background_prototypes=100000000", r"TRAIN\.background_prototypes"),
    ("TRAIN.ignore_label=254", r"TRAIN\.ignore_label"),
    ("TRAIN.power=0", r"TRAIN\.power"),
    ("TRAIN.momentum=1", r"TRAIN\.momentum"),
    ("TRAIN.weight_decay=-1", r"TRAIN\.weight_decay"),
    ("TRAIN.print_freq=0", r"TRAIN\.print_freq"),
    ("TRAIN.save_freq=0", r"TRAIN\.save_freq"),
    ("TRAIN.batch_size_val=0", r"TRAIN\.batch_size_val"),
    ("TRAIN.episodes=-1", r"TRAIN\.episodes"),
    ("VIS.pictures=-1", r"VIS\.pictures"),
    ("VIS.visualize=maybe", r"VIS\.visualize"),
    ("Cluster.threads=100000", r"Cluster\.threads"),
    ("Cluster.neighbours=100000000", r"Cluster\.neighbours"),
    ("Cluster.scales=[1e9]", r"Cluster\.scales"),
    ("Cluster.scales=[]", r"Cluster\.scales"),
    ("Cluster.scales=[0]", r"Cluster\.scales"),
    ("Cluster.assign_size=200000", r"Cluster\.assign_size"),
    ("Cluster.cluster_size=200000", r"Cluster\.cluster_size"),
    ("Cluster.cluster_num=256", r"Cluster\.cluster_num"),
    ("Cluster.cluster_num=1", r"Cluster\.cluster_num"),
    ("Cluster.object_share=1", r"Cluster\.object_share"),
    ("Cluster.object_share=0", r"Cluster\.object_share"),
    ("Cluster.memory_gb=0", r"Cluster\.memory_gb"),
    ("Cluster.superpixel_scale=-1", r"Cluster\.superpixel_scale"),
    ("Cluster.superpixel_min_size=0", r"Cluster\.superpixel_min_size"),
    ("DATA.classes=0", r"DATA\.classes"),
    ("DATA.classes=255", r"DATA\.classes"),
    ("DATA.min_area=0", r"DATA\.min_area"),
    # Values and keys that do not exist
    ("Cluster.recipe=fancy", r"Cluster\.recipe"),
    ("Cluster.algorithm=fancy", r"Cluster\.algorithm"),
    ("Cluster.region_rule=fancy", r"Cluster\.region_rule"),
    ("Cluster.extractor=vgg", r"Cluster\.extractor"),
    ("Cluster.extractor_normalize=fancy", r"Cluster\.extractor_normalize"),
    ("TRAIN.backbone=resnet9000", r"resnet9000"),
    ("TRAIN.backbone=../../etc/passwd", r"TRAIN\.backbone|etc/passwd"),
    ("TRAIN.backbone_normalize=fancy", r"TRAIN\.backbone_normalize"),
    ("TRAIN.compat=yes", r"TRAIN\.compat"),
    ("TRAIN.split=4", r"TRAIN\.split"),
    ("TRAIN.split=0", r"TRAIN\.split"),
    ("TRAIN.layers=152", r"resnet152_v2|TRAIN\.layers"),
    ("TRAIN.train_gpu=[0,1]", r"TRAIN\.train_gpu"),
    ("TRAIN.train_gpu=0", r"TRAIN\.train_gpu"),
    ("TRAIN.train_gpu=[-1]", r"TRAIN\.train_gpu"),
    ("TRAIN.epoch=3", r"unknown key 'TRAIN\.epoch' \(did you mean TRAIN\.epochs\?\)"),
    ("epohcs=3", r"unknown key 'epohcs'"),
    ("train.epochs=3", r"unknown key 'train\.epochs'"),
    ("OTHER.epochs=3", r"unknown key 'OTHER\.epochs'"),
    ("=3", r"unknown key ''"),
    ("TRAIN.=3", r"unknown key"),
    ("TRAIN.epochs", r"'TRAIN\.epochs' has no value"),
    ("n" * 5000 + "=1", r"unknown key"),
    ("TRAIN.epochs\n=1", r"unknown key"),
    ("TRAIN.\udcff=1", r"unknown key"),
    # Files that are not there, or are something else
    ("DATA.train_list={s}/none.txt", r"none\.txt"),
    ("DATA.train_list={s}", r"list"),
    ("DATA.train_list={w}/foreign.pth", r"foreign\.pth"),
    ("DATA.train_list=/dev/null", r"/dev/null"),
    ("DATA.data_root={s}/none", r"none"),
    ("DATA.data_root={w}/lists/train.txt", r"train\.txt"),
    ("Cluster.pseudo_folder={s}/none", r"none.*masks/create\.sh"),
    ("Cluster.pseudo_folder={w}/lists/train.txt", r"train\.txt"),
    ("TRAIN.backbone_weights={s}/none.pth", r"none\.pth"),
    ("TRAIN.backbone_weights={w}/foreign.pth", r"foreign\.pth"),
    ("TRAIN.backbone_weights={w}/lists/train.txt", r"train\.txt"),
    ("TRAIN.backbone_weights={w}", r"weights|folder"),
    ("TRAIN.weight={s}/none.pth", r"none\.pth"),
    ("TRAIN.weight={w}/foreign.pth", r"foreign\.pth.*import_published"),
    ("TRAIN.weight={w}/lists/train.txt", r"train\.txt"),
    ("TRAIN.weight={w}/lists", r"lists"),
    ("TRAIN.resume={s}/none.pth", r"none\.pth"),
    ("TRAIN.resume={w}/foreign.pth", r"foreign\.pth"),
    ("TRAIN.save_path={w}/lists/train.txt", r"train\.txt"),
    ("TRAIN.save_path=/proc/none", r"/proc/none"),
    ("TRAIN.save_path={s}/" + "n" * 300, r"name"),
    ("DATA.min_area=300", r"min_area is 200 there, 300 expected"),
    ("Cluster.seed=1", r"seed"),
    ("TRAIN.compat=published", r"compat"),
]  # fmt: skip
AGAIN_WORDS = [
    ("TRAIN.base_lr=0.5", r"run.*TRAIN\.base_lr is 0\.002 there, 0\.5 expected"),
    ("TRAIN.manual_seed=9", r"run.*TRAIN\.manual_seed is 123 there, 9 expected"),
    ("TRAIN.epochs=2", r"run.*TRAIN\.epochs is 1 there, 2 expected"),
    ("TRAIN.weight={w}/run/latest.pth", r"run.*TRAIN\.weight is None there"),
]
TEST_WORDS = [
    ("TRAIN.weight={s}/none.pth", r"none\.pth.*train\.sh"),
    ("TRAIN.weight={w}/foreign.pth", r"foreign\.pth"),
    ("TRAIN.weight={w}/lists", r"lists"),
    ("TRAIN.weight={w}/backbone.safetensors", r"backbone\.safetensors"),
    ("DATA.val_list={s}/none.txt", r"none\.txt"),
    ("DATA.val_list={w}/lists/train.txt=", r"train\.txt="),
    ("DATA.data_root={s}", r"not found|image"),
    ("DATA.classes=1", r"classes|label"),
    ("DATA.min_area=100000000", r"min_area|class"),
    ("TRAIN.shot=50", r"shot|images"),
    ("TRAIN.split=1", r"TRAIN\.split=1 contradicts"),
    ("TRAIN.train_gpu=[0,1]", r"TRAIN\.train_gpu"),
    ("TRAIN.save_path={w}/none", r"none/latest\.pth"),
    ("--method=best", r"best"),
    ("--method", r"--method"),
    ("--checkpoint=x", r"--checkpoint"),
]
CREATE_WORDS = [
    ("extractor=timm:no_such_net", r"no_such_net"),
    ("extractor=vgg", r"extractor"),
    ("weights={s}/none.pth", r"none\.pth"),
    ("weights={w}/foreign.pth", r"foreign\.pth"),
    ("weights={w}/lists/train.txt", r"train\.txt"),
    ("list={s}/none.txt", r"none\.txt"),
    ("experiment=ssl_nothing", r"no experiment 'ssl_nothing'"),
    ("Cluster.recipe=fancy", r"Cluster\.recipe"),
    ("Cluster.stage=9", r"stage"),
    ("Cluster.stage=-9", r"stage"),
    ("Cluster.seed=99", r"seed is"),
    ("Cluster.scales=[0.001]", r"scales"),
    ("Cluster.pseudo_folder={w}/lists", r"lists"),
    ("Cluster.pseudo_folder={w}/lists/train.txt", r"train\.txt"),
    ("Cluster.pseudo_folder=/proc/none", r"/proc/none"),
    ("Cluster.cluster_num=0", r"Cluster\.cluster_num"),
    ("DATA.data_root={s}/none", r"none"),
    ("--fast", r"--fast"),
]
WORDS = [
    *(Word("train", *row) for row in TRAIN_WORDS),
    *(Word("train again", *row) for row in AGAIN_WORDS),
    *(Word("test", *row) for row in TEST_WORDS),
    *(Word("masks.create", *row) for row in CREATE_WORDS),
]


class Line(NamedTuple):
    """A whole command line, words separated by blanks."""

    command: str
    text: str
    names: str


PREDICT = "--checkpoint {w}/run/latest.pth"
SUPPORT = "--support {w}/own/a.png {w}/own_masks/a.png"
QUERY = "--query {w}/own/b.png --output {s}/out"
COCO = "--annotations {w}/coco/annotations/instances_train2014.json"
LINES = [
    Line("predict", f"--checkpoint {{s}}/none.pth {SUPPORT} {QUERY}", r"none\.pth"),
    Line("predict", f"--checkpoint {{w}}/foreign.pth {SUPPORT} {QUERY}", r"foreign\.pth"),
    Line("predict", f"--checkpoint {{w}}/lists {SUPPORT} {QUERY}", r"lists"),
    Line("predict", f"--checkpoint /dev/null {SUPPORT} {QUERY}", r"/dev/null"),
    Line("predict", f"{PREDICT} --support {{s}}/none.png {{w}}/own_masks/a.png {QUERY}", r"none\.png"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {{s}}/none.png {QUERY}", r"none\.png"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {{w}}/lists/train.txt {QUERY}", r"train\.txt"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {{w}}/own/a.png {QUERY}", r"a\.png"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {QUERY}", r"--support"),
    Line("predict", f"{PREDICT} --support {{w}}/own {{w}}/own_masks {QUERY}", r"own"),
    Line("predict", f"{PREDICT} {SUPPORT} --query {{s}}/none.png", r"none\.png"),
    Line("predict", f"{PREDICT} {SUPPORT} --query {{w}}/lists", r"lists"),
    Line("predict", f"--method moon {SUPPORT} {QUERY}", r"--method"),
    Line("predict", f"{PREDICT} --method nearest {SUPPORT} {QUERY}", r"--method"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --backbone TRAIN.backbone=resnet18", r"--backbone"),
    Line("predict", f"--method nearest {SUPPORT} {QUERY} --backbone TRAIN.moon=1", r"TRAIN\.moon"),
    Line("predict", f"--method nearest {SUPPORT} {QUERY} --backbone moon", r"moon"),
    Line(
        "predict", f"--method nearest {SUPPORT} {QUERY} --backbone TRAIN.backbone_weights={{s}}/none.pth", r"none\.pth"
    ),
    Line(
        "predict", f"--method nearest {SUPPORT} {QUERY} --backbone TRAIN.backbone_weights={{w}}/foreign.pth", r"foreign"
    ),
    Line("predict", f"{PREDICT} {SUPPORT} --supports {{w}}/own {QUERY}", r"--supports"),
    Line("predict", f"{PREDICT} --supports {{s}}/none {QUERY}", r"none: not a folder"),
    Line("predict", f"{PREDICT} --supports {{w}}/own {QUERY}", r"a\.png: has no mask beside it"),
    Line("predict", f"{PREDICT} --supports {{w}}/lists {QUERY}", r"lists: no images"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --presence 2", r"--presence"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --presence 0.4 --always", r"--always"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --threshold all", r"--threshold"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --write moon", r"--write.*moon"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --write", r"--write"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {{s}}/none.json {QUERY}", r"none\.json: file not found"),
    Line("predict", f"{PREDICT} --support {{w}}/own/a.png {{w}}/run/results.json {QUERY}", r"results\.json"),
    Line("predict", f"{PREDICT} {SUPPORT} {QUERY} --min-area -1", r"--min-area"),
    Line("predict", f"{PREDICT} {SUPPORT} --query {{w}}/own/b.png --output {{w}}/foreign.pth", r"foreign\.pth"),
    Line("predict", f"{PREDICT} {SUPPORT} --query {{w}}/own/b.png --output /proc/none", r"/proc/none"),
    Line("predict", f"{PREDICT} {SUPPORT}", r"--query"),
    Line("predict", f"{SUPPORT} {QUERY}", r"--checkpoint"),
    Line("export", "{s}/none.pth --supports {w}/annotated {s}/x.onnx", r"none\.pth"),
    Line("export", "{w}/run --supports {s}/none {s}/x.onnx", r"none: not a folder"),
    Line("export", "{w}/run --supports {w}/annotated", r"RUN or --method"),
    Line("export", "{w}/run --supports {w}/annotated --method nearest {s}/x.onnx", r"RUN or --method"),
    Line("export", "{w}/run --supports {w}/annotated /proc/none/x.onnx", r"/proc/none"),
    Line("web", "--checkpoint {s}/none.pth", r"none\.pth"),
    Line("web", "--checkpoint {w}/foreign.pth --port 0", r"foreign\.pth"),
    Line("web", "--checkpoint {w}/run --backbone TRAIN.backbone=resnet18", r"--backbone"),
    Line("web", "--method nearest --backbone TRAIN.backbone_weights={s}/none.pth", r"none\.pth"),
    Line("web", "--checkpoint {w}/run --port 65536", r"--port"),
    Line("prepare", "moon", r"moon"),
    Line("prepare", "shapes --train 0 --root {s}/d --lists {s}/l", r"--train"),
    Line("prepare", "shapes --train 1_0 --root {s}/d --lists {s}/l", r"--train"),
    Line("prepare", "shapes --train 2.0 --root {s}/d --lists {s}/l", r"--train"),
    Line("prepare", "shapes --size 63 --root {s}/d --lists {s}/l", r"--size"),
    Line("prepare", "shapes --size 1025 --root {s}/d --lists {s}/l", r"--size"),
    Line("prepare", "shapes --seed -1 --root {s}/d --lists {s}/l", r"--seed"),
    Line("prepare", "shapes --workers 0 --root {s}/d --lists {s}/l", r"--workers"),
    Line("prepare", "shapes --train 1 --val 1 --root {w}/foreign.pth --lists {s}/l", r"foreign\.pth"),
    Line("prepare", "shapes --train 1 --val 1 --root /proc/none --lists {s}/l", r"/proc/none"),
    Line("prepare", "coco --images {w}/coco", r"--annotations"),
    Line("prepare", f"coco --images {{s}}/none {COCO} --root {{s}}/d --lists {{s}}/l", r"none"),
    Line("prepare", f"coco --images {{w}}/own {COCO} --root {{s}}/d --lists {{s}}/l", r"own"),
    Line("prepare", "coco --images {w}/coco --annotations {s}/train.json --root {s}/d", r"train\.json"),
    Line("prepare", "coco --images {w}/coco --annotations {w}/lists/train.txt --root {s}/d", r"train\.txt"),
    Line("prepare", f"coco --images {{w}}/coco {COCO} --crowd many --root {{s}}/d", r"--crowd"),
    Line("prepare", f"coco --images {{w}}/coco {COCO} --root {{w}}/foreign.pth --lists {{s}}/l", r"foreign\.pth"),
    Line("prepare", "pascal", r"--voc|--sbd|--download"),
    Line("prepare", "pascal --voc {s}/none --sbd {w}/pascal/benchmark_RELEASE --root {s}/d --lists {s}/l", r"none"),
    Line("prepare", "pascal --voc {w}/pascal/VOC2012 --sbd {w}/own --root {s}/d --lists {s}/l", r"own"),
    Line("prepare", "pascal --voc {w}/foreign.pth --sbd {w}/own --root {s}/d --lists {s}/l", r"foreign\.pth"),
    Line("prepare", "pascal --voc {w}/pascal/VOC2012 --root {s}/d --lists {s}/l", r"--sbd|SBD"),
    Line("prepare", "folder {s}/none --name x --root {s}/d --lists {s}/l", r"none"),
    Line("prepare", "folder {w}/lists --name x --root {s}/d --lists {s}/l", r"lists"),
    Line("prepare", "folder {w}/own --name pascal --root {s}/d --lists {s}/l", r"pascal"),
    Line("prepare", "folder {w}/own --name ../x --root {s}/d --lists {s}/l", r"\.\./x"),
    Line("prepare", "folder {w}/own --root {s}/d --lists {s}/l", r"--name"),
    Line("prepare", "folder {w}/own --masks {s}/none --name x --root {s}/d --lists {s}/l", r"none"),
    Line("prepare", "folder {w}/own --masks {w}/lists --name x --root {s}/d --lists {s}/l", r"lists"),
    Line("prepare", "folder {w}/own --masks {w}/own --name x --root {s}/d --lists {s}/l", r"own"),
    Line("prepare", "folder {w}/own --colours {s}/none --name x --root {s}/d --lists {s}/l", r"--colours|none"),
    Line("prepare", "folder {w}/own --class-names {s}/none --name x --root {s}/d --lists {s}/l", r"none"),
    Line("prepare", "folder {w}/own --val-share 1 --name x --root {s}/d --lists {s}/l", r"--val-share"),
    Line("prepare", "folder {w}/own --classes 255 --name x --root {s}/d --lists {s}/l", r"--classes"),
    Line("prepare", "folder {w}/own --masks {w}/own_masks --name x --root {w}/foreign.pth --lists {s}/l", r"foreign"),
    Line("prepare", "subset {s}/none.txt --root {w}/shapes --percent 5", r"none\.txt"),
    Line("prepare", "subset {w}/lists/train.txt --root {s}/none --percent 5", r"none"),
    Line("prepare", "subset {w}/lists/train.txt --root {w}/shapes --percent 100", r"--percent"),
    Line("prepare", "subset {w}/lists/train.txt --root {w}/shapes --percent 0.0001", r"--percent|0\.0001|image"),
    Line("prepare", "subset {w}/lists/train.txt --root {w}/shapes", r"--percent"),
    Line("prepare", "check moon", r"moon"),
    Line("prepare", "check shapes ssl_moon", r"ssl_moon"),
    Line("prepare", "check --workers -1 shapes", r"--workers"),
    Line("masks.create", "{w}", r"dataset"),
    Line("masks.create", "{s}/none shapes", r"none"),
    Line("masks.create", "{w} moon", r"moon"),
    Line("masks.create", "{w} shapes experiment", r"experiment"),
    Line("masks.report", "{s}/none shapes", r"none"),
    Line("masks.report", "--images 0 {w} shapes", r"--images"),
    Line("masks.report", "{w} shapes Cluster.pseudo_folder={s}/none", r"none"),
    Line("masks.pretrain", "{s}/none {s}/out.safetensors", r"none"),
    Line("masks.pretrain", "{w}/lists {s}/out.safetensors", r"lists"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --size 100000", r"size"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --size 7", r"size"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --workers -1", r"workers"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --epochs 0", r"epochs"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --batch 1000", r"batch"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --lr nan", r"lr"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --lr x", r"lr"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --precision fp8", r"precision"),
    Line("masks.pretrain", "{w}/own {s}/out.safetensors --probe {w}/lists/val.txt", r"--root"),
    Line("masks.pretrain", "{w}/own {w}/own", r"own"),
    Line("masks.pretrain", "{w}/own {w}/backbone.safetensors --epochs 1 --batch 2 --queue 2 --size 32", r"backbone"),
    Line("engine.report", "{s}/none", r"none"),
    Line("engine.report", "{w}/lists", r"lists"),
    Line("engine.report", "{w}/lists/train.txt", r"train\.txt"),
    Line("engine.compare", "{w}/run", r"--against"),
    Line("engine.compare", "{w}/run --against {s}/none", r"none"),
    Line("engine.compare", "{w}/run --against {w}/run {w}/run", r"--against"),
    Line("engine.compare", "{w}/run --against {w}/run --draws 5", r"--draws"),
    Line("model.import_published", "{s}/none.pth {s}/o.pth", r"none\.pth"),
    Line("model.import_published", "{w}/foreign.pth {s}/o.pth", r"foreign\.pth"),
    Line("model.import_published", "{w}/lists/train.txt {s}/o.pth", r"train\.txt"),
    Line("model.import_published", "{w}/run/latest.pth {s}/o.pth", r"latest\.pth"),
    Line("train", "shapes", r"experiment"),
    Line("train", "moon ssl_demo", r"moon"),
    Line("train", "../shapes ssl_demo", r"\.\./shapes"),
    Line("train", "shapes ../ssl_demo", r"\.\./ssl_demo"),
    Line("train", "shapes ssl_moon", r"ssl_moon"),
    Line("train", "shapes ssl_", r"ssl_"),
    Line("train", "shapes split9_demo", r"split9_demo"),
    Line("train", "shapes " + "n" * 5000, r"no experiment"),
    Line("train", "n" * 5000 + " ssl_demo", r"no dataset"),
    Line("train", "shapes ssl_demo --epochs 3", r"--epochs"),
]


class Spoilt(NamedTuple):
    """A file of the run folder, spoilt by ``spoil``; ``commands`` must refuse it."""

    file: str
    spoil: Callable[[Path], object]
    commands: str
    names: str


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def _json(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _without(*keys: str) -> Callable[[Path], object]:
    """Remove keys of a checkpoint."""

    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in content.items() if key not in keys}, path)

    return spoil


def _with(**changes: object) -> Callable[[Path], object]:
    """Change keys of a checkpoint."""
    return lambda path: torch.save({**torch.load(path, weights_only=True), **changes}, path)


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content["model"])
        torch.save(content, path)

    return spoil


def _not_finite(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], float("nan"))


SPOILT = [
    Spoilt("latest.pth", _folder, "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _bytes(b""), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _text("<!DOCTYPE html>"), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _cut, "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _flip, "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _without("model"), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _without("config"), "train again, test", r"latest\.pth"),
    Spoilt("latest.pth", _without("network", "config"), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _without("version"), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _without("epoch"), "train again, test", r"latest\.pth"),
    Spoilt("latest.pth", _without("label_use"), "test", r"latest\.pth"),
    Spoilt("latest.pth", _without("optimizers"), "train again", r"latest\.pth"),
    Spoilt("latest.pth", _with(version=99), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(version="2"), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(model=[1, 2]), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(model={}), "train again, test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(network={"backbone": 3}), "test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(network=None), "test, predict", r"latest\.pth"),
    Spoilt("latest.pth", _with(epoch="many"), "train again, test", r"latest\.pth"),
    Spoilt("latest.pth", _with(epoch=-1), "train again, test", r"latest\.pth"),
    Spoilt("latest.pth", _with(config=[]), "train again, test", r"latest\.pth"),
    Spoilt("latest.pth", _with(optimizers={}), "train again", r"latest\.pth"),
    Spoilt("latest.pth", _with(optimizers=3), "train again", r"latest\.pth"),
    Spoilt("latest.pth", _tensors(_not_finite), "train again, test, predict", r"latest\.pth.*finite"),
    *(
        Spoilt("latest.pth", _tensors(spoil), "train again, test, predict", r"latest\.pth")
        for spoil in (
            lambda tensors: tensors.pop("adjust_query.0.weight"),
            lambda tensors: tensors.update(more=torch.zeros(3)),
            lambda tensors: tensors.update({key: value.flatten()[:1] for key, value in tensors.items()}),
        )
    ),
    *(
        Spoilt(RESULTS, spoil, "engine.report, engine.compare", r"results\.json")
        for spoil in (
            _text(""), _text("{}"), _text("[]"), _text("3"), _text("[" * 100_000), _bytes(b"\xff\xfe"), _cut,
            _json(protocol=None), _json(protocol={}), _json(protocol=[]), _json(miou="high"), _json(miou=None),
            _json(miou=float("nan")), _json(fb_iou=[1]),
        )
    ),
    *(
        Spoilt(SCORES, spoil, "engine.compare", r"episodes\.csv")
        for spoil in (
            _text(""), _text("class\n"), _bytes(b"\xff\xfe"), _cut, _folder,
            lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
            lambda path: path.write_text(path.read_text().replace(",", ",-", 3)),
            lambda path: path.write_text(re.sub(r",\d+$", ",nan", path.read_text(), flags=re.MULTILINE)),
            lambda path: path.write_text(re.sub(r",\d+$", "," + "9" * 5000, path.read_text(), flags=re.MULTILINE)),
        )
    ),
]  # fmt: skip
CASES = len(WORDS) + len(LINES) + sum(len(row.commands.split(", ")) for row in SPOILT)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("mistakes"))


def test_there_are_many_cases() -> None:
    assert CASES >= FEWEST


@pytest.mark.parametrize("row", WORDS, ids=lambda row: f"{row.command} {row.word[:40]!a}")
def test_a_word(world: World, tmp_path: Path, row: Word) -> None:
    word = row.word.replace("{w}", str(world.root)).replace("{s}", str(tmp_path))
    line = mistake(row.command, [*world.command_lines()[row.command], word])
    assert re.search(row.names, line), line
    assert len(line) < 2500
    assert not (world.root / "new" / "config.yaml").exists()


@pytest.mark.parametrize("row", LINES, ids=lambda row: f"{row.command} {row.text[:60]}")
def test_a_line(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Line) -> None:
    monkeypatch.chdir(tmp_path)
    text = row.text.replace("{w}", str(world.root)).replace("{s}", str(tmp_path))
    line = mistake(row.command, text.split())
    assert re.search(row.names, line), line


@pytest.mark.parametrize(
    ("row", "command"),
    [(row, command) for row in SPOILT for command in row.commands.split(", ")],
    ids=lambda value: value if isinstance(value, str) else value.file,
)
def test_a_spoilt_file(world: World, tmp_path: Path, row: Spoilt, command: str) -> None:
    shutil.copytree(world.root / "run", tmp_path / "spoilt")
    row.spoil(tmp_path / "spoilt" / row.file)
    run_folder = str(world.root / "run")
    words = world.command_lines()[command]
    place = next(place for place, word in enumerate(words) if run_folder in word)
    words[place] = words[place].replace(run_folder, str(tmp_path / "spoilt"))
    before = _content(tmp_path / "spoilt")
    assert re.search(row.names, mistake(command, words))
    assert _content(tmp_path / "spoilt") == before


def _content(folder: Path) -> dict[str, bytes]:
    """The files in a folder, but for hidden ones and the log, and what is in them: a mistake changes nothing."""
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "log."))]
    return {path.name: path.read_bytes() for path in paths}
