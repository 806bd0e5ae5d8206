"""Which checkpoint is resumed from: with folders of their own, all ranks get the newest one that any machine has."""

import os
import socket
from pathlib import Path

import pytest
import torch

from onion_lightning.errors import OnionError
from onion_lightning.training.job import checkpoint as module
from onion_lightning.training.job.checkpoint import choose_checkpoint
from tests.several import on_ranks

HOST = socket.gethostname()


def save(file: Path, step: int, run: str | None = "r", job: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    saved = {} if run is None else {"run": {"id": run, "job": job}}
    torch.save({"onion_lightning": saved, "global_step": step, "x": torch.full((100_000,), step)}, file)


def steps(folder: Path) -> dict[str, int]:
    return {file.name: torch.load(file)["global_step"] for file in sorted(folder.glob("*.ckpt"))}


# case: the value of --ckpt_path, and what each machine has: a file, its step and its run
CASES = {
    "only the first": ("last", [("last.ckpt", 7, "r"), None, None]),
    "only the second": ("last", [None, ("last.ckpt", 7, "r"), None]),
    "the newest": ("last", [("last.ckpt", 5, "r"), ("last.ckpt", 9, "r"), ("last.ckpt", 7, "r")]),
    "damaged": ("last", [("last.ckpt", 5, "r"), ("last.ckpt", 5, "r"), ("last.ckpt", None, "r")]),
    "two runs": ("last", [("last.ckpt", 5, "one"), ("last.ckpt", 9, "another"), None]),
    "two of best": ("best", [("best.ckpt", 5, "r"), ("best.ckpt", 9, "r"), None]),
    "none": ("last", [None, None, None]),
    "unwritable": ("last", [("last.ckpt", 5, "r"), "a file", None]),
}


def choose_all(rank, folder):
    module.CHUNK = 1000  # several pieces
    found = {}
    for case, (asked, _) in CASES.items():
        own = Path(folder) / case / str(rank)
        try:
            chosen = choose_checkpoint(asked, own, trains=True)
        except OnionError as error:
            chosen = f"error: {error}"
        hidden = [file.name for file in own.glob(".*")] if own.is_dir() else []
        found[case] = [chosen, steps(own) if own.is_dir() and case != "damaged" else {}, hidden]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folders of three machines in each case."""
    top = tmp_path_factory.mktemp("machines")
    for case, (_, machines) in CASES.items():
        for rank, content in enumerate(machines):
            own = top / case / str(rank)
            if content == "a file":
                own.write_text("where the folder should be")
            elif content is not None and content[1] is None:
                own.mkdir(parents=True)
                (own / content[0]).write_bytes(b"cut")
            elif content is not None:
                save(own / content[0], *content[1:])
    return top


@pytest.fixture(scope="module")
def outcomes(folder):
    """What each of three ranks has chosen in each case, and the steps of the files that it then has."""
    ranks = on_ranks(choose_all, str(folder), world=3)
    return {case: [rank[case] for rank in ranks] for case in CASES}


@pytest.mark.parametrize(("case", "step"), [("only the first", 7), ("only the second", 7), ("the newest", 9)])
def test_the_newest_checkpoint_of_any_machine_is_copied_to_all(folder, outcomes, case, step):
    assert outcomes[case] == [["last", {"last.ckpt": step}, []]] * 3
    assert len({(folder / case / str(rank) / "last.ckpt").read_bytes() for rank in range(3)}) == 1


def test_a_damaged_file_is_replaced(folder, outcomes):
    assert [found for found, *_ in outcomes["damaged"]] == ["last"] * 3
    assert steps(folder / "damaged" / "2") == {"last.ckpt": 5}


def test_checkpoints_of_different_runs_are_refused_on_all_ranks_and_nothing_is_changed(outcomes):
    sentence = (
        f"error: --ckpt_path last: rank 0 on {HOST} and rank 1 on {HOST} have checkpoints of different runs (steps 5 and"
        " 9); remove one of them, or give another --checkpoint.dirpath."
    )
    assert [found for found, *_ in outcomes["two runs"]] == [sentence] * 3
    assert [left for _, left, _ in outcomes["two runs"]] == [{"last.ckpt": 5}, {"last.ckpt": 9}, {}]


def test_a_best_checkpoint_that_differs_is_not_replaced(outcomes):
    for found, *_ in outcomes["two of best"]:
        assert found.endswith(f"the file of rank 1 on {HOST} is not that of rank 0; copy it there.")
    assert [left for _, left, _ in outcomes["two of best"]] == [{"best.ckpt": 5}, {"best.ckpt": 9}, {}]


def test_none_anywhere_is_left_to_the_command(outcomes):
    assert outcomes["none"] == [["last", {}, []]] * 3


def test_a_machine_that_cannot_store_the_file_stops_all(folder, outcomes):
    first, second, third = [found for found, *_ in outcomes["unwritable"]]
    cause = f"--ckpt_path {folder}/unwritable/1/last.ckpt: cannot be written ("
    assert second.startswith(f"error: {cause}")
    assert first == third
    assert first.startswith(f"error: rank 1 on {HOST}: {cause}")


@pytest.mark.parametrize(
    ("job", "run", "chosen"),
    [("slurm/7", "r", "last"), ("slurm/8", "r", None), (None, "r", None), ("slurm/7", None, None)],
)
def test_a_requeued_job_resumes_only_from_the_checkpoint_that_it_wrote(environment, tmp_path, capsys, job, run, chosen):
    save(tmp_path / "last.ckpt", 4, run, job)
    environment({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    os.environ.pop("SLURM_CLUSTER_NAME", None)
    assert choose_checkpoint(None, tmp_path, trains=True) == chosen
    assert ("This job was requeued: resuming from step 4" in capsys.readouterr().err) == (chosen is not None)
    assert choose_checkpoint(None, tmp_path, trains=False) is None
    environment({"SLURM_JOB_ID": "7"})
    assert choose_checkpoint(None, tmp_path, trains=True) is None
    assert choose_checkpoint("last", tmp_path, trains=True) == "last"
