"""`predict` on several machines: the articles file is whole wherever the part files are."""

import os
import socket

import pytest

from onion_lightning.model.articles import gathering
from onion_lightning.model.articles.parts import read_batches
from tests.conftest import records
from tests.model.articles.conftest import HEADLINES


@pytest.fixture
def machines(tmp_path):
    return [tmp_path / name for name in ("a", "b", "c")]


def parts(*folders):
    return [part for folder in folders for part in sorted(folder.glob(".*"))]


def numbers(*folders):
    return sorted(batch.number for part in parts(*folders) for batch in read_batches(part))


def runs(folder):
    """Return which run wrote the article of each headline, after checking that none is missing, double or misplaced."""
    found = records(folder / "articles.jsonl")
    assert [(record["index"], record["headline"]) for record in found] == list(enumerate(HEADLINES))
    assert all(record["article"].endswith(record["headline"]) for record in found)
    return [record["article"].split(":")[0] for record in found]


@pytest.mark.parametrize("chunk", [1, 700, 4_000_000])
def test_machines_with_folders_of_their_own_write_one_file_on_that_of_rank_zero(predict, machines, monkeypatch, chunk):
    monkeypatch.setattr(gathering, "CHUNK", chunk)
    assert predict(machines) == {}
    assert runs(machines[0]) == ["first run"] * len(HEADLINES)
    assert not (machines[1] / "articles.jsonl").exists()
    assert parts(*machines) == []


@pytest.mark.parametrize("local_ranks", [(0, 1, 2), (0, 0, 0), (0, 0, 1)])
def test_ranks_that_share_a_folder_send_nothing(predict, machines, monkeypatch, local_ranks):
    monkeypatch.setattr(gathering, "send_to_rank_zero", None)
    assert predict([machines[0]] * 3, local_ranks) == {}
    assert runs(machines[0]) == ["first run"] * len(HEADLINES)
    assert parts(machines[0]) == []


def test_the_first_rank_of_a_machine_waits_for_the_others_before_it_sends(predict, machines):
    a, b, _ = machines
    assert predict([a, b, b], (0, 0, 1), late=2) == {}
    assert runs(a) == ["first run"] * len(HEADLINES)


@pytest.mark.parametrize("local_ranks", [(0, 0, 0), (0, 0, 1)])
def test_two_ranks_that_share_a_folder_apart_from_rank_zeros_send_each_batch_once(
    predict, machines, monkeypatch, tmp_path, local_ranks
):
    append = gathering.append

    def log(part, block):
        with (tmp_path / "sent").open("ab") as stream:
            stream.write(block)
        append(part, block)

    monkeypatch.setattr(gathering, "append", log)
    assert predict([machines[0], machines[1], machines[1]], local_ranks) == {}
    assert runs(machines[0]) == ["first run"] * len(HEADLINES)
    assert sorted(batch.number for batch in read_batches(tmp_path / "sent")) == [1, 2, 4, 5, 7]


def test_a_killed_run_resumes_with_the_machines_swapped(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=2)
    assert numbers(a) == [0, 2]
    assert numbers(b) == [1, 3]
    assert predict([b, a], resume=True, name="second run", stop_after=1) == {}
    assert numbers(b) == [1, 3, 4]
    assert numbers(a) == [0, 2, 5]
    assert predict([a, b], resume=True, name="third run") == {}
    assert {name: runs(a).count(name) for name in ("first run", "second run", "third run")} == {
        "first run": 8,
        "second run": 4,
        "third run": 3,
    }
    assert not (b / "articles.jsonl").exists()
    assert parts(a, b) == []


def test_a_run_resumes_on_one_machine_that_wrote_the_last_part_of_it_alone(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=2)
    assert predict([b], resume=True, name="second run") == {}
    assert runs(b).count("first run") == 4
    assert runs(b).count("second run") == 11


def test_a_run_in_which_all_batches_were_done_writes_the_file(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=4)
    assert numbers(a, b) == list(range(8))
    assert predict([b, a], resume=True, name="second run") == {}
    assert runs(b) == ["first run"] * len(HEADLINES)
    assert parts(a, b) == []


def test_a_machine_lost_while_it_sends_loses_nothing(predict, machines, monkeypatch):
    a, b, _ = machines

    def die(*args):
        yield next(chunks(*args))
        os._exit(9)

    chunks = gathering.chunks
    with monkeypatch.context() as patch:
        patch.setattr(gathering, "CHUNK", 1)
        patch.setattr(gathering, "chunks", die)
        assert list(predict([a, b])) == [0]
    assert not (a / "articles.jsonl").exists()
    assert numbers(a) == [0, 1, 2, 4, 6]
    assert numbers(b) == [1, 3, 5, 7]
    assert predict([b, a], resume=True, name="second run") == {}
    assert runs(b) == ["first run"] * len(HEADLINES)


def test_a_machine_whose_file_cannot_be_written_stops_all_and_keeps_all_parts(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=4)
    (a / ".articles.jsonl.all").mkdir()
    errors = predict([a, b], resume=True)
    assert errors[0].startswith(f"--articles.path {a / 'articles.jsonl'}: cannot be written (Is a directory); what was")
    assert errors[1] == f"rank 0 on {socket.gethostname()}: {errors[0]}"
    (a / ".articles.jsonl.all").rmdir()
    assert set(numbers(a, b)) == set(range(8))


def test_part_files_of_other_settings_on_one_machine_are_one_error_on_all(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=2)
    [part] = parts(b)
    lines = part.read_bytes()
    part.write_bytes(lines.replace(b'"settings": "', b'"settings": "x'))
    before = [part.read_bytes() for part in parts(a, b)]
    errors = predict([a, b], resume=True)
    assert errors[1].startswith(f"--articles.resume true: {part} was written with other headlines or settings")
    assert errors[0] == f"rank 1 on {socket.gethostname()}: {errors[1]}"
    assert [part.read_bytes() for part in parts(a, b)] == before


def test_machines_with_other_settings_are_refused(predict, machines):
    host = socket.gethostname()
    error = (
        f"--model.seed: is 1 for rank 0 on {host}, but 2 for rank 2 on {host}; start the same command on all machines."
    )
    errors = predict(machines, seeds=(1, 1, 2))
    assert sorted(errors) == [0, 1, 2]
    assert set(errors.values()) == {error}
    assert parts(*machines) == []


def test_a_path_that_is_a_directory_on_one_machine_is_one_error_on_all(predict, machines):
    a, b, _ = machines
    (b / "articles.jsonl").mkdir(parents=True)
    errors = predict([a, b])
    assert errors[1] == f"--articles.path {b / 'articles.jsonl'}: is a directory; give the path of a file."
    assert errors[0] == f"rank 1 on {socket.gethostname()}: {errors[1]}"


def test_a_folder_that_cannot_be_written_on_one_machine_is_one_error_on_all(predict, machines):
    a, b, _ = machines
    b.write_text("a file")
    errors = predict([a, b])
    assert errors[1].startswith(
        f"--articles.path {b / 'articles.jsonl'}: cannot be written (File exists); give another"
    )
    assert errors[0] == f"rank 1 on {socket.gethostname()}: {errors[1]}"


def test_a_run_that_starts_over_removes_the_part_files_on_all_machines(predict, machines):
    a, b, _ = machines
    predict([a, b], stop_after=2)
    (b / ".articles.jsonl.7.part").write_text("left by another run\n")
    assert predict([b, a], name="second run") == {}
    assert runs(b) == ["second run"] * len(HEADLINES)
    assert parts(a, b) == []
