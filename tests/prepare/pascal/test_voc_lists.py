"""Which ids train and test, and why lists may differ from the benchmark's."""

from __future__ import annotations

from pathlib import Path

import pytest

from prepare.pascal.archives import Download, Entry
from prepare.pascal.voc_lists import (
    VocLists,
    first_few,
    read_listed_ids,
    read_voc_lists,
)
from util.errors import UserError

IDS = [f"2010_{number:06d}" for number in range(8)]


def download(name: str, **files: bytes) -> Download:
    """Text files: ``ImageSets__train`` stands for ``ImageSets/Segmentation/train.txt``."""
    names = {key: key.replace("ImageSets__", "ImageSets/Segmentation/") + ".txt" for key in files}
    return Download(Path(name), {names[key]: Entry(names[key], data) for key, data in files.items()})


def lists(train: str, val: str, sbd_train: str | None, sbd_train_noval: str | None) -> VocLists:
    """Ids by their last digit."""

    def ids(digits: str) -> frozenset[str]:
        return frozenset(IDS[int(digit)] for digit in digits)

    return VocLists(
        train=ids(train),
        val=ids(val),
        sbd_train=None if sbd_train is None else ids(sbd_train),
        sbd_train_noval=None if sbd_train_noval is None else ids(sbd_train_noval),
    )


@pytest.mark.parametrize(
    ("sbd_train", "sbd_train_noval"), [("0245", None), (None, "045"), ("0245", "045"), (None, "0245"), ("7", "045")]
)
def test_training_is_voc_and_sbd_without_what_voc_validates_on(
    sbd_train: str | None, sbd_train_noval: str | None
) -> None:
    splits = lists("01", "23", sbd_train, sbd_train_noval).splits()
    assert splits == {"train": [IDS[number] for number in (0, 1, 4, 5)], "val": IDS[2:4]}


def test_lists_are_read_from_both_downloads() -> None:
    voc = download("voc", ImageSets__train=b"2010_000000\n\n2010_000001 \r\n", ImageSets__val=b"2010_000002")
    sbd = download("sbd", train=b"2010_000002\n2010_000004\n", val=b"2010_000000\n")
    assert read_voc_lists(voc, sbd) == lists("01", "2", "24", None)


@pytest.mark.parametrize(
    ("voc", "sbd", "message"),
    [
        ({"ImageSets__train": b"2010_000001"}, {"train": b"2010_000004"}, r"voc: no ImageSets/Segmentation/val\.txt"),
        ({"ImageSets__val": b"2010_000001"}, {"train": b"2010_000004"}, r"voc: no ImageSets/Segmentation/train\.txt"),
        ({}, {"val": b"2010_000004"}, r"sbd: neither train\.txt nor train_noval\.txt in it; unpack or download"),
        (
            {},
            {"train": b"2010_000004\n../2010_000004"},
            r"train\.txt, line 2: expected an image id .*, found '\.\./2010",
        ),
        ({}, {"train": b"2010_000004  1"}, r"train\.txt, line 1: expected an image id"),
        ({}, {"train": b"\xff\xd8\xff"}, r"train\.txt: not a text file"),
        ({}, {"train_noval": b" \n"}, r"train_noval\.txt: the list is empty"),
    ],
)
def test_bad_lists_are_named(voc: dict[str, bytes], sbd: dict[str, bytes], message: str) -> None:
    files = voc or {"ImageSets__train": b"2010_000001", "ImageSets__val": b"2010_000002"}
    with pytest.raises(UserError, match=message):
        read_voc_lists(download("voc", **files), download("sbd", **sbd))


def test_listed_ids_come_from_lines_of_the_projects_lists(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("JPEGImages/2010_000001.jpg SegmentationClassAug/2010_000001.png\n\n")
    assert read_listed_ids(path) == ["2010_000001"]
    for line in (
        "JPEGImages/2010_000001.jpg",
        "JPEGImages/2010_000001.jpg SegmentationClassAug/2010_000002.png",
        "JPEGImages/../x.jpg SegmentationClassAug/../x.png",
        "2010_000001",
    ):
        path.write_text(f"JPEGImages/2010_000001.jpg SegmentationClassAug/2010_000001.png\n{line}\n")
        with pytest.raises(
            UserError, match=r"train\.txt, line 2: expected 'JPEGImages/2007_000032\.jpg Segm.* found '"
        ):
            read_listed_ids(path)


def test_doubts_name_the_list_to_blame() -> None:
    doubts = list(lists("01", "23", "0245", "0467").doubts())
    assert doubts[0] == "ImageSets/Segmentation/train.txt has 2 ids, the official one 1,464"
    assert doubts[-1] == (
        "train_noval.txt is not train.txt without ImageSets/Segmentation/val.txt: 2010_000005, 2010_000006, 2010_000007"
    )
    assert len(doubts) == 5
    assert len(list(lists("01", "23", "0245", None).doubts())) == 3


def test_long_enumerations_are_cut_short() -> None:
    assert first_few(["a", "b"]) == "a, b"
    assert first_few(IDS) == f"{IDS[0]}, {IDS[1]}, {IDS[2]} and 5 more"
