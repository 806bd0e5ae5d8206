"""A cache of `datasets` that cannot be written to is read, and another one is written to."""

import subprocess
from pathlib import Path

import datasets
import pytest

from onion_lightning.data.files.cache import use_writable_cache
from onion_lightning.errors import OnionError


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Sets the caches of `datasets` and of this project to folders that do not exist yet."""
    theirs, own = tmp_path / "theirs", tmp_path / "own"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", theirs)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", theirs / "downloads")
    monkeypatch.setenv("ONION_LIGHTNING_CACHE", str(own))
    return theirs, own / "datasets"


def test_a_writable_cache_is_used(caches, capsys):
    use_writable_cache()
    assert caches[0] == datasets.config.HF_DATASETS_CACHE
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_to_is_replaced_with_one_message(caches, run, capsys):
    theirs, own = caches
    theirs.write_text("")  # a file in its place: root may write to any folder
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0")
    assert (
        capsys.readouterr().err.count(f"The cache {theirs} is not writable; reading from it, and writing to {own}.")
        == 1
    )
    assert list(own.rglob("*.arrow"))


def test_two_caches_that_cannot_be_written_to_are_one_sentence(caches):
    for cache in (caches[0], caches[1].parent):
        cache.write_text("")
    with pytest.raises(OnionError, match="set HF_DATASETS_CACHE or ONION_LIGHTNING_CACHE to a writable folder"):
        use_writable_cache()


@pytest.mark.fault
def test_a_dataset_in_a_read_only_cache_is_read_from_there(caches, capsys):
    theirs, own = caches
    prepared = theirs / "someone___news" / "default" / "0.0.0" / "rows.arrow"
    prepared.parent.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(theirs)], check=True)
    try:
        prepared.parent.mkdir(parents=True)
        prepared.write_text("rows")
        subprocess.run(["mount", "-o", "remount,ro", str(theirs)], check=True)
        use_writable_cache("Someone/News")
        linked: Path = own / prepared.relative_to(theirs)
        assert linked.read_text() == "rows"
        (linked.parent / "other.arrow").write_text("written")
    finally:
        subprocess.run(["umount", str(theirs)], check=True)
