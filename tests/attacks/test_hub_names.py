"""What is given as a repository of the hub is one, or is refused before anything is looked for."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate_kit.checkpoints import hub
from ablate_kit.errors import UserError

NAMES = [
    "", "/", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/../../b", "..", "./b", "a/.b", ".a/b",
    "a/b--c", "a--b/c", "a/b..c", "a\\b/c", "a/b\0", "a/b\n", "a b/c", "a/b@", "a/b@../../x",
    "a/b@/etc", "a/b@x/../y", "a/b@x/.y", "a/b@x\0", "a/b@@x", "a/b@x.lock", "~/b",
    "a/b@-x", "-a/b", "a/b-", "http://x/y", "a/b?x=1", "a/b#x", "a/%2e%2e", f"a/{'b' * 97}",
    "a/b/c.txt", "a/b/.pth", "a/b/../c.pth", "a/b/c..pth", "a/b/c/d.pth", "a/b/c\\d.pth",
    "a/b/c.pth\0", "a/b/*.pth", "a/b/c.pth\n", "a/b@v1/c.pth@x", f"a/b/{'c' * 97}.pth",
    f"a/b@{'x' * 101}", "datasets/a/b", "ä/b", "a/b​",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(hub, "_allowed", True)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="names no repository of the hub; expected") as refusal:
        hub.downloaded(Path(f"hf:{name}") if "\0" not in name else f"hf:{name}")
    assert len(str(refusal.value).splitlines()) == 1


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_name_leads_out_of_the_cache(owner: str, name: str, revision: str) -> None:
    try:
        found = hub.hub_id(f"hf:{owner}/{name}@{revision}")
    except UserError:
        return
    cache = Path("/cache")
    place = cache / f"models--{found.repository.replace('/', '--')}"
    assert place.parent == cache
    assert ".." not in (place / "refs" / found.revision).parts


@given(st.text(max_size=30), st.sampled_from(["", ".pth", "/x.bin", "/../x.pth", ".safetensors"]))
def test_no_file_leads_out_of_its_folder(file: str, suffix: str) -> None:
    try:
        found = hub.hub_id(f"hf:a/b/{file}{suffix}")
    except UserError:
        return
    assert (Path("/cache") / found.file).parent == Path("/cache")


@pytest.mark.parametrize(
    "name",
    [
        "facebook/detr-resnet-50",
        "a/b@v1.0",
        "a_b/c.d-e@refs/pr/1",
        "a/b/c-1.pth",
        "a/b/c.bin@refs/pr/1",
    ],
)
def test_what_is_one_is_taken_as_it_is(name: str) -> None:
    assert str(hub.hub_id(f"hf:{name}")) == f"hf:{name}"
