"""Output folders: what is refused before the work starts, and what a failed write leaves."""

import itertools
import pathlib

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.output_folder import check_folder, replacing, write_folder

NAMES = ["report.html", "metrics.json"]


def refusal(output, overwrite):
    with pytest.raises(OnionError) as error:
        check_folder(str(output), NAMES, overwrite)
    return str(error.value)


def test_a_new_folder_is_accepted_and_not_created(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_folder("~/new/report", NAMES, overwrite=False) == tmp_path / "new" / "report"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_or_of_one_above_it_is_refused(tmp_path):
    file = tmp_path / "report"
    file.write_text("mine")
    file.chmod(0o755)  # like a folder, it can be written to and entered as far as permissions go
    for overwrite in (False, True):
        assert refusal(file, overwrite) == f"--output {file}: is a file; give a folder."
        assert refusal(file / "more", overwrite) == (
            f"--output {file / 'more'}: {file} is not writable; give another folder."
        )
    assert file.read_text() == "mine"


def test_an_earlier_result_is_replaced_only_on_request(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert check_folder(str(tmp_path), NAMES, overwrite=False) == tmp_path
    (tmp_path / "metrics.json").write_text("earlier")
    assert refusal(tmp_path, overwrite=False) == (
        f"--output {tmp_path}: contains an earlier metrics.json; give another folder, or set --overwrite true."
    )
    assert check_folder(str(tmp_path), NAMES, overwrite=True) == tmp_path


def test_files_with_the_mark_of_the_command_are_replaced_and_others_refused(tmp_path):
    mark = "onion_lightning egg"
    write_folder(tmp_path, {"report.html": f"<html>{mark}", "metrics.json": f'{{"written_by": "{mark}"}}'})
    assert check_folder(str(tmp_path), NAMES, overwrite=False, mark=mark) == tmp_path
    for foreign in ("{}", "", '{"written_by": "onion_lightning"}', " " * 5000 + mark):
        (tmp_path / "metrics.json").write_text(foreign)
        with pytest.raises(OnionError) as error:
            check_folder(str(tmp_path), NAMES, overwrite=False, mark=mark)
        assert str(error.value) == (
            f"--output {tmp_path}: its metrics.json is not marked as “{mark}”; give another folder, or set --overwrite"
            " true."
        )
        assert check_folder(str(tmp_path), NAMES, overwrite=True, mark=mark) == tmp_path


def test_a_folder_in_place_of_a_file_is_refused_also_with_overwrite(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    assert refusal(tmp_path, overwrite=True) == (
        f"--output {tmp_path}: its metrics.json is a folder; give another folder."
    )


def test_the_home_folder_of_an_unknown_user_is_one_sentence():
    output = "~no-such-user-here/report"
    assert refusal(output, overwrite=False).startswith(f"--output {output}: cannot be written (")


def test_all_files_are_written_and_only_they(tmp_path):
    folder = tmp_path / "new" / "report"
    write_folder(folder, {"report.html": "“egg” 🥚", "attention.png": b"\x89PNG"})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "report.html": "“egg” 🥚".encode(),
        "attention.png": b"\x89PNG",
    }


def test_a_failed_write_leaves_an_earlier_result_and_nothing_else(tmp_path):
    (tmp_path / "report.html").write_text("earlier")
    with pytest.raises(OnionError) as error:
        write_folder(tmp_path, {"report.html": "new", "no folder/metrics.json": "{}"})
    assert str(error.value) == (
        f"--output {tmp_path}: cannot be written (No such file or directory); give another folder."
    )
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"report.html": "earlier"}


def test_a_lone_surrogate_is_replaced_and_the_file_is_utf_8(tmp_path):
    write_folder(tmp_path, {"a.txt": "caf\xe9 \ud800!"})
    assert (tmp_path / "a.txt").read_bytes() == "caf\xe9 \ufffd!".encode()


def test_a_result_with_folders_replaces_an_earlier_one_as_a_whole(tmp_path):
    (tmp_path / "merged").mkdir()
    for name in ("merged/old", "metrics.json", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    with replacing(tmp_path, [*NAMES, "merged"]) as part:
        (part / "merged").mkdir()
        (part / "merged" / "new").write_text("later")
        assert (tmp_path / "merged" / "old").read_text() == "earlier"
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "merged",
        "merged/new",
        "notes.txt",
    ]


@pytest.mark.parametrize("interrupted", range(1, 5))
def test_a_swap_that_is_interrupted_is_undone(tmp_path, monkeypatch, interrupted):
    """The signal arrives after one of the renames of two files, old and new."""
    write_folder(tmp_path, dict.fromkeys(NAMES, "earlier"))
    rename, count = pathlib.Path.rename, itertools.count(1)

    def stop(old, new):
        rename(old, new)
        if next(count) == interrupted:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path, dict.fromkeys(NAMES, "later"))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(NAMES, "earlier")
    write_folder(tmp_path, dict.fromkeys(NAMES, "later"))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(NAMES, "later")


def write_half(folder, error):
    with replacing(folder, NAMES) as part:
        (part / "metrics.json").write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_result_that_is_not_completed_leaves_the_earlier_one(tmp_path, error):
    (tmp_path / "metrics.json").write_text("earlier")
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises((OnionError, KeyboardInterrupt)):
            write_half(folder, error)
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_text() == "earlier"


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "merged").write_text("mine")
    with pytest.raises(OnionError, match="its merged is a file"):
        check_folder(str(tmp_path), NAMES, True, folders=["merged"])
