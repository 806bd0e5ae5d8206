"""Votes are counted once, survive, and are exported."""

import json
import sqlite3
import threading

import datasets
import pytest

from onion_lightning.errors import OnionError
from onion_lightning.serving.votes import Pair, Votes, export_votes, wilson_interval


def pair(number, systems=("base", "tuned"), texts=("A left egg.", "A right egg."), model="tiny"):
    return Pair(f"id{number}", f"Egg {number} Wins", systems, texts, model, "greedy")


@pytest.fixture
def votes(tmp_path):
    return Votes(tmp_path / "votes.sqlite")


def test_a_tally_counts_both_positions_of_a_pair_of_systems(votes):
    votes.add(pair(1), "left")
    votes.add(pair(2, ("tuned", "base")), "left")
    votes.add(pair(3, ("tuned", "base")), "right")
    votes.add(pair(4), "tie")
    votes.add(pair(5, ("few_shot", "tuned")), "neither")
    first, second = votes.tallies(lambda *_: "tiny")
    assert (first.systems, first.wins, first.ties, first.neither) == (("base", "tuned"), (2, 1), 1, 0)
    assert (second.systems, second.wins, second.ties, second.neither) == (("few_shot", "tuned"), (0, 0), 0, 1)
    assert first.share == pytest.approx(2 / 3)
    assert second.share is second.interval is None


def test_votes_on_another_model_are_not_counted_together(votes):
    votes.add(pair(1), "left")
    votes.add(pair(2, model="tiny, other adapters"), "right")
    assert votes.tallies(lambda *_: "tiny")[0].wins == (1, 0)
    assert votes.tallies(lambda *_: "tiny, other adapters")[0].wins == (0, 1)


def test_another_program_s_database_is_refused_and_stays_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    with pytest.raises(OnionError, match=r"cannot be used \(no such table: votes\); give a file of votes"):
        Votes(tmp_path / "other.sqlite")
    assert (tmp_path / "other.sqlite").read_bytes() == before


def test_a_pair_is_counted_once(votes):
    assert votes.add(pair(1), "left")
    assert not votes.add(pair(1), "left")
    assert not votes.add(pair(1), "right")
    assert votes.tallies(lambda *_: "tiny")[0].wins == (1, 0)


def test_votes_survive_a_restart(votes, tmp_path):
    votes.add(pair(1), "right")
    assert Votes(tmp_path / "votes.sqlite").tallies(lambda *_: "tiny")[0].wins == (0, 1)


def test_fifty_concurrent_voters_lose_nothing(votes, tmp_path):
    """Through two objects, as if two servers wrote to one file; each pair is voted on by two of them."""
    others = (votes, Votes(tmp_path / "votes.sqlite"))
    counted = []

    def vote(voter):
        names = [f"{voter // 2}-{number}" for number in range(10)]
        choices = ("left", "right")
        counted.extend(n for n, name in enumerate(names) if others[voter % 2].add(pair(name), choices[n % 2]))

    threads = [threading.Thread(target=vote, args=(voter,)) for voter in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 250
    assert votes.tallies(lambda *_: "tiny")[0].wins == (125, 125)


def test_the_interval_is_that_of_the_score_test():
    from scipy.stats import binomtest

    for wins, count in ((0, 5), (3, 7), (40, 50), (9, 9)):
        expected = binomtest(wins, count).proportion_ci(0.95, method="wilson")
        assert wilson_interval(wins, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("choice", ["", "both", "left; DROP TABLE votes"])
def test_another_choice_is_refused(votes, choice):
    with pytest.raises(OnionError, match="is not one of left, right, tie, neither"):
        votes.add(pair(1), choice)
    assert votes.tallies(lambda *_: "tiny") == []


def test_a_file_that_is_no_database_is_one_sentence_and_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("These are not votes. " * 100)
    with pytest.raises(OnionError, match=r"^--votes .*notes.txt: cannot be used \(file is not a database\); give"):
        Votes(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "These are not votes. " * 100


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(OnionError, match="there is no folder"):
        Votes(tmp_path / "none" / "votes.sqlite")


def test_looking_creates_no_file(votes, tmp_path):
    assert votes.tallies(lambda *_: "tiny") == []
    assert not (tmp_path / "votes.sqlite").exists()


def test_the_export_has_one_line_for_each_decision(votes, tmp_path):
    votes.add(pair(1), "left")
    votes.add(pair(2, texts=("Left \u2028 🥚", "Right")), "right")
    votes.add(pair(3), "tie")
    votes.add(pair(4), "neither")
    votes.add(pair(5, texts=("Same", "Same")), "left")
    assert export_votes(votes, tmp_path / "pairs.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    prompt = "### Headline: Egg 1 Wins\n### Article:\n"
    assert lines[0] == {"prompt": prompt, "chosen": "A left egg.", "rejected": "A right egg."}
    assert lines[1]["chosen"] == "Right"


def test_an_earlier_export_is_replaced_and_another_file_is_not(votes, tmp_path):
    file = tmp_path / "pairs.jsonl"
    votes.add(pair(1), "left")
    export_votes(votes, file)
    votes.add(pair(2), "left")
    assert export_votes(votes, file) == len(file.read_text().splitlines()) == 2
    for other in (b"mine\n", b'{"prompt": "mine"}\n', b"\xff\xfe", b""):
        file.write_bytes(other)
        with pytest.raises(
            OnionError, match=r"^--export_votes .*: contains something else than preference pairs; give"
        ):
            export_votes(votes, file)
        assert file.read_bytes() == other


def test_an_export_without_a_decision_writes_nothing(votes, tmp_path):
    votes.add(pair(1), "tie")
    with pytest.raises(
        OnionError, match=r"^--export_votes .*: .*votes.sqlite contains no vote for one of two articles"
    ):
        export_votes(votes, tmp_path / "pairs.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["votes.sqlite"]


def test_an_acknowledged_vote_is_seen_by_another_program_and_leaves_no_journal(votes, tmp_path):
    votes.add(pair(1), "left")
    with sqlite3.connect(f"file:{tmp_path / 'votes.sqlite'}?mode=ro", uri=True) as other:
        assert other.execute("SELECT pair, choice, headline FROM votes").fetchall() == [("id1", "left", "Egg 1 Wins")]
    other.close()
    assert [file.name for file in tmp_path.iterdir()] == ["votes.sqlite"]  # no journal is left behind


def test_dpo_trainer_reads_the_export(votes, tmp_path, tiny_base):
    votes.add(pair(1), "left")
    votes.add(pair(2), "right")
    export_votes(votes, tmp_path / "pairs.jsonl")
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert rows.column_names == ["prompt", "chosen", "rejected"]
    assert train_dpo(rows, tiny_base, tmp_path) > 0


def train_dpo(rows, base, folder):
    """Return the loss of a step of DPO on the rows."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import DPOConfig, DPOTrainer

        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.pad_token = tokenizer.eos_token
        config = DPOConfig(
            str(folder / "dpo"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False,
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = DPOTrainer(
            AutoModelForCausalLM.from_pretrained(base), args=config, train_dataset=rows, processing_class=tokenizer
        )
        return trainer.train().training_loss
