"""A stand-in for the Hugging Face hub: what ``model_info`` and ``snapshot_download`` ask of it."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("huggingface_hub")

REPOSITORY = "someone/tiny-detr"


@dataclass
class Hub:
    """Repositories by name: files by path, under a commit that their bytes decide.

    Attributes:
        asked: the paths of all requests.
        told_files, told_commit: files beside the others, and a commit, that it lies about.
        refuses: HTTP status and error code of a repository that is not handed out.
    """

    address: str
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    told_files: tuple[str, ...] = ()
    told_commit: str = ""

    def put(self, repository: str, folder: Path, **more: bytes) -> None:
        found = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}
        self.files[repository] = found | more

    def commit(self, repository: str = REPOSITORY) -> str:
        listed = sorted((name, _sha(data)) for name, data in self.files[repository].items())
        return _sha(repr(listed).encode())

    def downloads(self) -> list[str]:
        """The names of the files that were fetched."""
        return sorted({one.split("/", 5)[-1] for one in self.asked if "/resolve/" in one})


def _sha(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repository = f"{owner}/{name}"
        if repository in self.hub.refuses:
            status, code = self.hub.refuses[repository]
            return self._send(status, b"{}", {"X-Error-Code": code}, body)
        if repository not in self.hub.files:
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        files, commit = self.hub.files[repository], self.hub.commit(repository)
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", "v1", commit):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        if api and rest[:1] == ["tree"]:
            listed = [
                {"type": "file", "path": one, "size": len(data), "oid": _sha(data)}
                for one, data in files.items()
            ]
            listed += [{**listed[0], "path": one} for one in self.hub.told_files]
            return self._json(listed, body)
        if api:
            siblings = [{"rfilename": one, "size": len(data)} for one, data in files.items()]
            siblings += [{"rfilename": one, "size": 1} for one in self.hub.told_files]
            return self._json(
                {"id": repository, "sha": self.hub.told_commit or commit, "siblings": siblings},
                body,
            )
        file = "/".join(rest[2:])
        if file not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        heads = {"X-Repo-Commit": self.hub.told_commit or commit, "ETag": f'"{_sha(files[file])}"'}
        return self._send(200, files[file], heads, body)

    def _json(self, value: Any, body: bool) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def _send(self, status: int, data: bytes, heads: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in heads.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Callable[[str], Path]
) -> Iterator[Hub]:
    """A hub that has the repository ``someone/tiny-detr``, and an empty cache."""
    from huggingface_hub import constants

    from ablate_kit.checkpoints import hub as ours

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    _Handler.hub = found = Hub(address)
    found.put(REPOSITORY, folders("detr"), **{"README.md": b"tiny", "modeling.py": b"boom"})
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ours, "_found", {})
    monkeypatch.setattr(ours, "_allowed", False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
