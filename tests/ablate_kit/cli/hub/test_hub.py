"""Checkpoints of the hub, by the real client, from a stand-in on this machine."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import hub as ours

ID = "hf:someone/tiny-detr"


@pytest.fixture
def refused(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which a command ends."""

    def refused(*words: object) -> str:
        from ablate_kit.cli import edge
        from ablate_kit.cli.app import app

        given = [str(word) for word in words]
        code = edge.run(lambda: app(given)(given, standalone_mode=False))
        printed = capsys.readouterr()
        assert code == 2
        assert not printed.out
        told, line = printed.err.splitlines()[:-1], printed.err.splitlines()[-1]
        assert all(one.startswith("note: ") or " is commit " in one for one in told)
        return line

    return refused


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process begins."""
    monkeypatch.setattr(ours, "_found", {})
    monkeypatch.setattr(ours, "_allowed", False)


def test_nothing_is_downloaded_unless_allowed(hub, refused) -> None:
    assert refused("keys", ID) == (
        f"ablate: {ID} was not downloaded before; add --allow-download to fetch it from the hub"
    )
    assert hub.asked == []


def test_what_is_needed_is_downloaded_and_used_offline_from_then_on(
    hub, run, capsys, monkeypatch, folders
) -> None:
    listed = run("keys", ID, "--allow-download", "--format", "json")
    expected = run("keys", folders("detr"), "--format", "json")
    assert json.loads(listed) == json.loads(expected)
    assert hub.downloads() == ["config.json", "model.safetensors", "preprocessor_config.json"]

    asked = len(hub.asked)
    forget(monkeypatch)
    assert run("keys", ID, "--format", "json") == listed
    forget(monkeypatch)
    run("keys", ID, "--allow-download")
    assert len(hub.asked) == asked


def test_the_commit_is_told(hub, capsys, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(ours, "tell", told.append)
    with ours.downloads(allowed=True):
        folder = ours.downloaded(Path(ID))
    forget(monkeypatch)
    ours.downloaded(Path(ID))
    commit = hub.commit()
    assert folder.name == commit
    assert told[0].startswith(f"{ID} is commit {commit}: 3 files, ")
    assert told[1] == f"{ID} is commit {commit}, which was downloaded before: {folder}"
    assert ours.with_commit(ID) == f"{ID}@{commit}"


def test_a_name_means_the_same_files_though_the_hub_has_others_now(
    hub, monkeypatch, folders
) -> None:
    with ours.downloads(allowed=True):
        before = ours.downloaded(Path(ID))
        forget(monkeypatch)
        hub.put("someone/tiny-detr", folders("rt_detr_v2"))
    with ours.downloads(allowed=True):
        assert ours.downloaded(Path(ID)) == before
        assert ours.downloaded(Path(f"{ID}@v1")).name == hub.commit()
        assert hub.commit() != before.name


def test_an_interrupted_download_is_completed(hub, monkeypatch, refused) -> None:
    with ours.downloads(allowed=True):
        folder = ours.downloaded(Path(ID))
    (folder / "model.safetensors").unlink()
    forget(monkeypatch)
    assert "add --allow-download" in refused("keys", ID)
    forget(monkeypatch)
    with ours.downloads(allowed=True):
        assert (ours.downloaded(Path(ID)) / "model.safetensors").is_file()


def test_shards_and_weights_of_torch_where_there_is_no_safetensors(hub, tmp_path) -> None:
    files = hub.files["someone/tiny-detr"]
    weights = files.pop("model.safetensors")
    hub.files["a/bin"] = {**files, "pytorch_model.bin": weights, "x.msgpack": b""}
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    hub.files["a/shards"] = {
        **files,
        "pytorch_model.bin": weights,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00001.safetensors": weights,
        "adapter-00001.safetensors": b"",
    }
    hub.files["a/none"] = {"best.pth": weights, "sub/model.safetensors": weights}
    names = {"config.json", "preprocessor_config.json"}
    with ours.downloads(allowed=True):
        found = {one.name for one in ours.downloaded(Path("hf:a/bin")).iterdir()}
        assert found == {*names, "pytorch_model.bin"}
        found = {one.name for one in ours.downloaded(Path("hf:a/shards")).iterdir()}
        assert found == {
            *names, "model.safetensors.index.json", "model-00001-of-00001.safetensors"
        }  # fmt: skip
        with pytest.raises(
            ours.UserError, match=r"hf:a/none has no model.*it has best.pth; name one"
        ):
            ours.downloaded(Path("hf:a/none"))


def test_what_the_hub_refuses_is_one_line(hub, refused, monkeypatch) -> None:
    hub.refuses["someone/gated"] = 403, "GatedRepo"
    hub.refuses["someone/broken"] = 500, ""
    there = ("--allow-download",)
    assert refused("keys", "hf:someone/nothing", *there) == (
        f"ablate: hf:someone/nothing: {hub.address} has no such repository, or it is private "
        "(hf auth login, or HF_TOKEN)"
    )
    assert f"ask for it at {hub.address}/someone/gated" in refused(
        "keys", "hf:someone/gated", *there
    )
    assert refused("keys", f"{ID}@nowhere", *there) == (
        f'ablate: {ID}@nowhere: the repository has no revision "nowhere"'
    )
    assert f"cannot download from {hub.address}" in refused("keys", "hf:someone/broken", *there)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("keys", ID, *there)


def test_a_hub_that_does_not_answer(hub, refused, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refused("keys", ID, "--allow-download")
    assert line.startswith(f"ablate: {ID}: cannot download from http://127.0.0.1:9: ")


def test_code_is_downloaded_only_where_running_it_is_allowed(
    hub, refused, run, monkeypatch, tmp_path
) -> None:
    files = hub.files["someone/tiny-detr"]
    config = json.loads(files["config.json"])
    config["auto_map"] = {"AutoModelForObjectDetection": "modeling.Own"}
    hub.files["someone/own"] = {**files, "config.json": json.dumps(config).encode()}
    words = ("study", "hf:someone/own", "--shapes", "--allow-download", "-o", tmp_path / "run")
    line = refused(*words)
    assert "runs its own code (modeling.py)" in line
    assert "modeling.py" not in hub.downloads()
    forget(monkeypatch)
    refused(*words, "--trust-remote-code")
    assert "modeling.py" in hub.downloads()


def test_a_sweep_names_the_commit_and_refuses_another(
    hub, run, refused, monkeypatch, tmp_path, folders, capsys
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{checkpoint: '{ID}'}}\ndata: {{kind: shapes, limit: 2}}\n"
        "ablations: [{kind: heads, pattern: 'model.decoder.layers.0.self_attn'}]\n"
        "evaluation: {resamples: 10}\n"
    )
    folder = tmp_path / "run"
    first, commit = ("sweep", recipe, "-o", folder), hub.commit()
    assert "was not downloaded before" in refused(*first)
    forget(monkeypatch)
    run(*first, "--allow-download")
    named = f"{ID}@{commit}"
    for file in ("recipe.yaml", "about.json", "study.json", "inputs.json"):
        assert named in (folder / file).read_text()
    forget(monkeypatch)
    assert "resuming: 4 of 4 variants are done" in run(*first)
    # The same name after somebody has downloaded what the hub has now.
    hub.put("someone/tiny-detr", folders("detr"), **{"README.md": b"new"})
    import huggingface_hub

    huggingface_hub.snapshot_download("someone/tiny-detr")
    forget(monkeypatch)
    assert f"is a sweep of {named}, and the checkpoint is" in refused(*first)
    forget(monkeypatch)
    run(*first, "--set", f"model.checkpoint={named}")


def test_nothing_that_a_hub_answers_becomes_a_path_outside_of_the_cache(
    hub, tmp_path, monkeypatch
) -> None:
    with ours.downloads(allowed=True):
        hub.told_files = ("../../../../x.json", "/etc/y.json", "model-*.safetensors", "a/b.json")
        folder = ours.downloaded(Path(ID))
        names = {"config.json", "model.safetensors", "preprocessor_config.json"}
        assert {one.name for one in folder.iterdir()} == names
        forget(monkeypatch)
    with ours.downloads(allowed=True):
        hub.told_commit = "../../../../" + "a" * 28
        with pytest.raises(ours.UserError, match="answers with no commit"):
            ours.downloaded(Path(f"{ID}@v1"))
        # Of the headers of each file, too.
        hub.told_commit, exact = hub.told_commit, f"{ID}@{hub.commit()}"
        (folder / "config.json").unlink()
        ours.downloaded(Path(exact))
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


def test_a_file_of_the_top_folder_is_a_checkpoint(hub, refused, run, monkeypatch, tmp_path) -> None:
    weights = io.BytesIO()
    torch.save({"model": {"a.weight": torch.ones(2)}}, weights)
    hub.files["a/files"] = {
        "best.pth": weights.getvalue(),
        "last.pth": b"",
        "config.json": b"{}",
        "sub/other.pth": b"",
    }
    line = refused("keys", "hf:a/files", "--allow-download")
    assert line.endswith("name one, such as hf:a/files/best.pth")
    line = refused("keys", "hf:a/files/bset.pth", "--allow-download")
    assert "hf:a/files has no bset.pth; it has best.pth, last.pth, config.json" in line
    assert "names no repository" in refused("keys", "hf:a/files/sub/other.pth")
    assert "add --allow-download" in refused("keys", "hf:a/files/best.pth")
    assert "a.weight" in run("keys", "hf:a/files/best.pth", "--allow-download")
    assert hub.downloads() == ["best.pth"]
    forget(monkeypatch)
    asked = len(hub.asked)
    copy = tmp_path / "cut.pth"
    run("component", "hf:a/files/best.pth", "a", "-o", copy)
    exact = f"hf:a/files/best.pth@{hub.commit('a/files')}"
    assert json.loads(run("meta", copy, "--receipt"))["base"]["path"] == exact
    assert ours.with_commit("hf:a/files/best.pth") == exact
    assert "ok" in run("verify", copy)
    assert len(hub.asked) == asked


def test_a_receipt_names_the_commit_and_not_the_cache(
    hub, refused, run, monkeypatch, tmp_path
) -> None:
    from huggingface_hub import constants

    copy, smaller = tmp_path / "copy", tmp_path / "smaller"
    module = "model.decoder.layers.0.self_attn"
    run("heads", ID, module, "--heads", 0, "-o", copy, "--allow-download")
    (variant,) = copy.iterdir()
    run("shrink", ID, "--depth", 1, "-o", smaller)
    exact = f"{ID}@{hub.commit()}"
    for one in (variant, smaller):
        assert json.loads(run("meta", one, "--receipt"))["base"]["path"] == exact
    # On another machine, which downloads the same bytes, or does not.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    forget(monkeypatch)
    told = run("verify", variant)
    assert f"original   unknown  not here: {exact} was not downloaded before" in told
    forget(monkeypatch)
    assert "original   ok" in run("verify", variant, "--allow-download")
    assert "original  ok" in run("verify", smaller)


def test_a_cache_that_cannot_be_written(hub, refused, monkeypatch, tmp_path, caplog) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    line = refused("keys", ID, "--allow-download")
    assert line.startswith(f"ablate: {ID}: cannot use {tmp_path / 'file'}")
    assert not caplog.records  # the library says nothing of its own
