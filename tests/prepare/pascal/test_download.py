"""Files over HTTP, from a server of the test's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepare.pascal.download import PublicFile, fetch, fetch_all
from tests.prepare.pascal.http_server import Server, serve
from util.errors import UserError

DATA = bytes(range(256)) * 40
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({"a.tar": DATA, "c.txt": DATA}) as server:
        yield server


def public_file(server: Server, name: str) -> PublicFile:
    return PublicFile(server.address(name), MD5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch(public_file(server, "a.tar"), tmp_path / "new")
        assert path == tmp_path / "new" / "a.tar"
        assert path.read_bytes() == DATA
    assert server.ranges_requested == [None]
    assert names(tmp_path / "new") == ["a.tar"]


def test_a_broken_connection_continues_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut = 3000
    with pytest.raises(UserError, match=r"/a\.tar: (broke off after 3,000 of 10,240|the connection broke off)"):
        fetch(public_file(server, "a.tar"), tmp_path)
    assert names(tmp_path) == ["a.tar.part"]
    server.cut = None
    assert fetch(public_file(server, "a.tar"), tmp_path).read_bytes() == DATA
    assert server.ranges_requested == [None, "bytes=3000-"]
    assert names(tmp_path) == ["a.tar"]


def test_a_server_that_cannot_continue_sends_everything_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(DATA[:5000])
    server.ranges = False
    assert fetch(public_file(server, "a.tar"), tmp_path).read_bytes() == DATA


def test_a_part_that_is_the_whole_file_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(DATA)
    assert fetch(public_file(server, "a.tar"), tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["a.tar"]


def test_a_wrong_checksum_leaves_nothing_that_could_be_taken_for_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"other bytes")
    with pytest.raises(
        UserError, match=rf"a\.tar\.part: not the file of http.*/a\.tar \(MD5 is .*, expected {MD5}\); deleted$"
    ):
        fetch(public_file(server, "a.tar"), tmp_path)
    assert names(tmp_path) == []
    assert fetch(public_file(server, "a.tar"), tmp_path).read_bytes() == DATA


def test_a_file_fetched_by_hand_is_checked_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(DATA[:-1])
    with pytest.raises(UserError, match=r"a\.tar: not the file of http.* \(MD5 is .*; delete it, and the same"):
        fetch(public_file(server, "a.tar"), tmp_path)
    assert names(tmp_path) == ["a.tar"]
    (tmp_path / "a.tar").write_bytes(DATA)
    assert fetch(public_file(server, "a.tar"), tmp_path) == tmp_path / "a.tar"
    assert server.ranges_requested == []


def test_what_cannot_be_fetched_is_one_line_with_the_addresses(server: Server, tmp_path: Path) -> None:
    files = [public_file(server, name) for name in ("a.tar", "b.tgz", "c.txt")]
    with pytest.raises(UserError) as error:
        fetch_all(files, tmp_path)
    assert str(error.value) == (
        f"{files[1].address}: the server answered 404 (Not Found); the same command continues; "
        f"or fetch by hand into {tmp_path}: {files[1].address} {files[2].address}"
    )


def test_no_internet_is_one_line_with_the_addresses(tmp_path: Path) -> None:
    with serve({}) as server:
        file = public_file(server, "a.tar")
    message = rf"{file.address}: cannot be reached \(.*\); .* by hand into {tmp_path}: {file.address}$"
    with pytest.raises(UserError, match=message) as error:
        fetch_all([file], tmp_path)
    assert "\n" not in str(error.value)
