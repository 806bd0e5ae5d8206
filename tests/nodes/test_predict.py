"""`predict` over two machines, with and without a shared folder."""

import json

import pytest

from tests.conftest import records
from tests.nodes.conftest import in_slow_steps
from tests.nodes.processes import wait_for

pytestmark = pytest.mark.nodes

FIVE = ["Egg Wins", "A Longer Headline Of Many Words", "Third", "Fourth One Here", "Fifth"]
MANY = [f"Headline Number {i}" for i in range(40)]


@pytest.fixture
def articles(words, run, machines, tmp_path):
    """Returns, for some headlines, the articles of one rank, and the command lines of both machines."""

    def build(headlines, *more, shared=False):
        flags = (
            "--data.headlines",
            json.dumps(headlines),
            "--model.temperature",
            "1",
            "--data.predict_batch_size",
            "2",
        )
        run("predict", *flags)
        alone = records(tmp_path / "articles.jsonl")
        (tmp_path / "articles.jsonl").unlink()
        return alone, [words("predict", *flags, *more, machine=None if shared else one) for one in machines.both]

    return build


def test_all_articles_are_written_in_order_on_the_machine_of_rank_0(machines, articles):
    alone, lines = articles(FIVE)
    pair = machines.torchrun(*lines)
    assert pair.wait() == (0, 0), pair.text()
    assert "5 articles written" in pair.printed()
    assert records(machines.both[0].folder / "articles.jsonl") == alone
    for machine in machines.both:
        assert not list(machine.folder.glob(".articles*"))


@pytest.mark.parametrize("shared", [False, True])
def test_a_killed_predict_resumes_with_the_remaining_headlines(machines, articles, slow, tmp_path, shared):
    alone, lines = articles(MANY, *in_slow_steps(slow, 0.3, after=0), shared=shared)
    folders = [tmp_path if shared else machine.folder for machine in machines.both]
    pair = machines.torchrun(*lines)
    parts = [folder / f".articles.jsonl.{rank}.part" for rank, folder in enumerate(folders)]
    wait_for(lambda: all(part.exists() and part.read_text().count("\n") >= 3 for part in parts) or pair.ended())
    assert not pair.ended(), pair.text()
    machines.kill(machines.both[1])
    assert pair.first.wait(60) != 0, pair.text()
    assert not (folders[0] / "articles.jsonl").exists()
    written = sum(part.read_text().count("\n") for part in parts)
    slow.unlink()
    pair = machines.torchrun(*[[*line, "--articles.resume", "true"] for line in lines])
    assert pair.wait() == (0, 0), pair.text()
    assert records(folders[0] / "articles.jsonl") == alone
    assert written < len(MANY)
