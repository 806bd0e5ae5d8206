"""Uploads: a list without a token, the real client of huggingface_hub with one, on a network that is replaced."""

import base64
import importlib
import json

import huggingface_hub
import pytest
from huggingface_hub.utils import get_session


@pytest.fixture
def hub(monkeypatch):
    """A Hub that accepts commits. Returns its requests as (method, path, body), and its answers by path, to be changed."""
    http = importlib.import_module(type(get_session()).__module__.partition(".")[0])  # httpx, or its successor
    requests, answers = [], {}

    def answer(request):
        body = request.read()
        requests.append((request.method, request.url.path, body))
        assert request.headers["authorization"] == "Bearer hf_token"
        if request.url.path in answers:
            return http.Response(answers[request.url.path], json={"error": "no"}, request=request)
        content = {
            "url": "https://huggingface.co/eggs/articles",
            "commitUrl": "https://huggingface.co/eggs/articles/commit/1",
        }
        content |= {"commitOid": "1", "hookOutput": "", "sha": "1", "id": "eggs/articles"}
        if "/preupload/" in request.url.path:
            files = json.loads(body)["files"]
            content = {
                "files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            }
        return http.Response(200, json=content, request=request)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    default = huggingface_hub.utils._http.default_client_factory
    huggingface_hub.set_client_factory(lambda: http.Client(transport=http.MockTransport(answer)))
    yield requests, answers
    huggingface_hub.set_client_factory(default)


def committed(requests) -> dict[str, bytes]:
    """Return the files in the commits."""
    lines = [line for _, path, body in requests if "/commit/" in path for line in body.splitlines()]
    values = [json.loads(line)["value"] for line in lines if json.loads(line)["key"] == "file"]
    return {value["path"]: base64.b64decode(value["content"]) for value in values}


def test_without_a_token_the_files_are_listed_and_nothing_is_uploaded(exported, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "nowhere")  # of a login on this machine
    folder = exported("--push", "eggs/articles", "--merge", "true")
    printed = capsys.readouterr().err
    for name in ("adapter_model.safetensors", "README.md", "merged/model.safetensors"):
        assert f"{(folder / name).stat().st_size:,} bytes  {name}" in printed
    assert "Not uploaded, because there is no token" in printed
    assert "files for https://huggingface.co/eggs/articles." in printed


def test_with_a_token_the_export_is_committed_to_a_private_repository_and_other_files_are_not(exported, hub, capsys):
    folder = exported()
    (folder / "notes.txt").write_text("mine")
    exported("--push", "eggs/articles", "--merge", "true")
    requests, _ = hub
    [created] = [json.loads(body) for _, path, body in requests if path == "/api/repos/create"]
    assert (created["name"], created["organization"]) == ("articles", "eggs")
    assert created.get("visibility") == "private" or created.get("private")  # before huggingface_hub 2
    files = committed(requests)
    assert files["adapter_model.safetensors"] == (folder / "adapter_model.safetensors").read_bytes()
    assert "merged/model.safetensors" in files
    assert "notes.txt" not in files
    assert "is a directory of this machine" in capsys.readouterr().err


def test_a_hub_that_refuses_is_one_sentence_and_the_folder_stays(refused, checkpoint, tmp_path, hub):
    hub[1]["/api/models/eggs/articles/commit/main"] = 401
    words = ("--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), "--push", "eggs/articles")
    sentence = refused("export", *words)
    assert "--push eggs/articles: could not be uploaded" in sentence
    assert f"try again with hf upload eggs/articles {tmp_path / 'out'}" in sentence
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("name", ["articles", "a/b/c", "eggs/has space", "eggs/..", " "])
def test_a_name_that_is_no_repository_is_refused_before_anything_is_written(refused, checkpoint, tmp_path, name):
    words = ("--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), "--push", name)
    assert refused("export", *words).startswith(f"error: --push {name}: " if name.strip() else "error: --push '': ")
    assert not (tmp_path / "out").exists()
