"""Getting PASCAL VOC over a loopback line that breaks as told."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data import download
from detector.data.formats import voc_archives
from detector.data.formats.voc import Voc
from detector.data.formats.voc_archives import VocArchive, complete, presence
from detector.errors import UserError

XML = """<annotation><size><width>40</width><height>30</height></size><object><name>dog</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>10</ymax></bndbox></object></annotation>"""


class Server:
    """Serves ``files``; gives ``allowance`` bytes per answer, then breaks the line."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.allowance: int | None = None
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []

    def handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.requests.append((self.path, wanted))
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=")[:-1]) if wanted and server.ranges else 0
                if start and start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    whole = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.send_header("Content-Range", whole)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: server.allowance])

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    made = Server()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made, f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    thread.join()


def tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def official(year: str, split: str, names: list[str]) -> bytes:
    """An archive as VOC's own, of small images."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "JPEG")
    folder = f"VOCdevkit/VOC{year}"
    files = {f"{folder}/ImageSets/Main/{split}.txt": "\n".join(names).encode()}
    for name in names:
        files[f"{folder}/Annotations/{name}.xml"] = XML.encode()
        files[f"{folder}/JPEGImages/{name}.jpg"] = picture.getvalue()
    return tar(files)


@pytest.fixture
def site(server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Server, str]:
    """The three archives, small, on the server."""
    made, archives = server[0], []
    for year, split, count in (
        ("2007", "trainval", 3),
        ("2007", "test", 2),
        ("2012", "trainval", 4),
    ):
        first = {"trainval": 1, "test": 500}[split]
        prefix = "" if year == "2007" else "2008_"
        content = official(year, split, [f"{prefix}{first + i:06}" for i in range(count)])
        path = f"voc{year}/{split}_{year}.tar"
        made.files[f"/{path}"] = content
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        archives.append(VocArchive(path, digest, year, split, count))
    monkeypatch.setattr(voc_archives, "ARCHIVES", tuple(archives))
    return server


def ignored(done: int, total: int | None) -> None: ...


def quiet(name: str) -> Callable[[int, int | None], None]:
    return ignored


def test_checksums_and_counts_of_the_official_archives() -> None:
    found = {(one.year, one.split): (one.md5, one.images) for one in voc_archives.ARCHIVES}
    assert found == {
        ("2007", "trainval"): ("c52e279531787c972589f7e41ab4ae64", 5011),
        ("2007", "test"): ("b6e924de25625d8de591ea690078ad9f", 4952),
        ("2012", "trainval"): ("6cd6e144f989b92b3379bac3b3de84fd", 11540),
    }


@pytest.mark.parametrize("folder", ["data", "VOCdevkit"])
def test_all_is_fetched_once_and_reads_as_a_data_set(
    site: tuple[Server, str], tmp_path: Path, folder: str
) -> None:
    root = tmp_path / folder
    told: dict[str, list[tuple[int, int | None]]] = {}
    paths = complete(root, lambda name: lambda *p: told.setdefault(name, []).append(p), site[1])
    assert [path.name for path in paths] == [
        "trainval_2007.tar",
        "test_2007.tar",
        "trainval_2012.tar",
    ]
    assert all(part.complete for part in presence(root))
    assert all(steps[-1][0] == steps[-1][1] for steps in told.values())
    voc = Voc(root, "2007:trainval+2007:test+2012:trainval")
    assert len(voc) == 9
    assert np.abs(voc.image(8) - np.array([254, 0, 0])).max() <= 1
    assert (root / "VOCdevkit").exists() == (folder == "data")
    assert not list(tmp_path.rglob(".*"))
    asked = len(site[0].requests)
    assert complete(root, quiet, site[1]) == []
    assert len(site[0].requests) == asked == 3


def test_a_year_beside_its_list_is_completed_where_it_lies(
    site: tuple[Server, str], tmp_path: Path
) -> None:
    """A folder that holds VOC2007 itself, under any name."""
    complete(tmp_path, quiet, site[1])
    (tmp_path / "VOCdevkit" / "VOC2007").rename(tmp_path / "VOC2007")
    (tmp_path / "VOC2007" / "JPEGImages" / "000002.jpg").unlink()
    assert [part.images for part in presence(tmp_path)] == [2, 2, 4]
    assert len(complete(tmp_path, quiet, site[1])) == 1  # from the archive that was kept
    assert all(part.complete for part in presence(tmp_path))
    assert len(site[0].requests) == 3


def test_a_broken_line_is_taken_up_where_it_broke(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    made, address = server
    content = np.random.default_rng(0).bytes(10_000)
    made.files["/a"] = content
    made.allowance = 3_000
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
    assert (tmp_path / "a").read_bytes() == content
    ranges = [wanted for _, wanted in made.requests]
    assert ranges == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_a_line_that_stays_dead_leaves_what_arrived_for_the_next_call(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    made, address = server
    content = np.random.default_rng(0).bytes(10_000)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    made.files["/a"], made.allowance, made.ranges = content, 4_000, False
    with pytest.raises(
        UserError,
        match=r"broke off after 4,000 bytes: 10,000 were announced; .*run again to resume",
    ):
        download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / ".a.part").read_bytes() == content[:4_000]
    made.allowance, made.ranges = None, True
    made.requests.clear()
    download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
    assert made.requests == [("/a", "bytes=4000-")]
    assert (tmp_path / "a").read_bytes() == content


def test_a_server_without_ranges_begins_again(server: tuple[Server, str], tmp_path: Path) -> None:
    made, address = server
    made.files["/a"], made.ranges = b"new content", False
    (tmp_path / ".a.part").write_bytes(b"new")
    digest = hashlib.md5(b"new content", usedforsecurity=False).hexdigest()
    download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
    assert (tmp_path / "a").read_bytes() == b"new content"


@pytest.mark.parametrize("part", [b"content", b"another!", b"longer than it"])
def test_a_part_that_is_already_whole_is_checked(
    server: tuple[Server, str], tmp_path: Path, part: bytes
) -> None:
    made, address = server
    made.files["/a"] = b"content"
    digest = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    (tmp_path / ".a.part").write_bytes(part)
    if part == b"content":
        download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
        assert (tmp_path / "a").read_bytes() == b"content"
        return
    with pytest.raises(UserError, match=f"md5 .*, expected {digest}; removed"):
        download.fetch(f"{address}/a", tmp_path / "a", digest, ignored)
    assert list(tmp_path.iterdir()) == []


def test_what_has_another_checksum_is_no_archive(site: tuple[Server, str], tmp_path: Path) -> None:
    site[0].files["/voc2007/trainval_2007.tar"] += b"x"
    with pytest.raises(
        UserError, match=r"trainval_2007\.tar: the md5 of what it gave is .* expected"
    ):
        complete(tmp_path, quiet, site[1])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "trainval_2007.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"expected .*; remove it and try again"):
        complete(tmp_path, quiet, site[1])
    assert (tmp_path / "trainval_2007.tar").read_bytes() == b"mine"


def test_missing_files_servers_and_addresses(server: tuple[Server, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server answers 404 Not Found"):
        complete(tmp_path / "a", quiet, server[1])
    with pytest.raises(UserError, match="nothing arrives: Connection refused"):
        complete(tmp_path / "a", quiet, "http://127.0.0.1:9")
    for address in ("file:///etc", "ftp://host", "host"):
        with pytest.raises(UserError, match="is no web address"):
            complete(tmp_path / "a", quiet, address)


def test_an_archive_cannot_reach_out_of_its_folder(
    site: tuple[Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tar({"VOCdevkit/VOC2007/../../../../outside": b"x"})
    digest = hashlib.md5(evil, usedforsecurity=False).hexdigest()
    site[0].files["/evil.tar"] = evil
    monkeypatch.setattr(
        voc_archives, "ARCHIVES", (VocArchive("evil.tar", digest, "2007", "trainval", 3),)
    )
    with pytest.raises(UserError, match="cannot be unpacked"):
        complete(tmp_path / "in" / "data", quiet, site[1])
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "data", "evil.tar"}


def test_a_split_of_ones_own_is_not_overwritten(site: tuple[Server, str], tmp_path: Path) -> None:
    lists = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("000001\n")
    with pytest.raises(UserError, match=r"has a trainval split of 2007 with 1 images, the offic"):
        complete(tmp_path, quiet, site[1])
    assert (lists / "trainval.txt").read_text() == "000001\n"
    assert site[0].requests == []


def test_a_partial_real_set_is_told_as_such(shared: Path) -> None:
    first, second, third = presence(shared / "data/voc")
    assert (first.listed, first.annotations, first.images) == (826, 826, 826)
    assert not any(part.complete for part in (first, second, third))
    assert (second.listed, third.listed) == (0, 0)
