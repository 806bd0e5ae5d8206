"""What the buttons do, without a page."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from onion_lightning.errors import OnionError
from onion_lightning.evaluation.also import OtherModel
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.writing.copying import CopyIndex
from onion_lightning.serving.author import Author, Request
from onion_lightning.serving.desk import VOTES_PER_MINUTE, Desk, describe_tally
from onion_lightning.serving.sessions import CLOSED_SECONDS, RateLimit, Sessions
from onion_lightning.serving.training_rows import TrainingRows
from onion_lightning.serving.votes import Pair, Tally, Votes

DECODING = Decoding(max_new_tokens=15)
EXAMPLES = [[1, 30, 31, 32], [1, 40, 41, 42]]
COPIED = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.fixture
def desk(tuned, tmp_path):
    rows = TrainingRows(EXAMPLES, CopyIndex(["A <b>Training</b> Headline"], [f"before {COPIED} after"]))
    return Desk(Author(tuned, EXAMPLES), rows, Votes(tmp_path / "votes.sqlite"), "tiny")


def last(values):
    return list(values)[-1]


def test_the_comparison_shows_each_system_with_the_same_seed(desk):
    drafts = list(desk.compare("tab", "Egg Wins", replace(DECODING, candidates=3, adapter_strength=1.5), 3))
    for system in ("base", "few_shot", "tuned"):
        assert len(drafts[-1][system]) > 10
    assert len(set(drafts[-1].values())) == 3
    alone = last(desk.write("tab", "Egg Wins", replace(DECODING, adapter_strength=1.5), 3))
    assert drafts[-1]["tuned"] == alone[0][0]
    base = last(desk.write("tab", "Egg Wins", replace(DECODING, adapter_strength=0), 3))
    assert drafts[-1]["base"] == base[0][0]


def test_a_pair_is_shuffled_and_named_only_after_the_vote(desk):
    orders = set()
    for _ in range(24):
        left, right, pair_id = last(desk.pair("tab", "Egg Wins", replace(DECODING, max_new_tokens=2)))
        pair = desk.pending[pair_id]
        assert pair.texts == (left, right)
        assert pair.systems[0] != pair.systems[1]
        orders.add(pair.systems)
    assert len(orders) >= 4  # of 6; fewer in one of 800,000 runs
    names = {"base": "Base model", "few_shot": "Few-shot", "tuned": "Fine-tuned"}
    left, right = (names[system] for system in pair.systems)
    assert desk.vote("tab", pair_id, "left") == f"Left: {left}. Right: {right}."
    assert desk.vote("tab", pair_id, "left").endswith("This pair had been voted on before.")
    assert len(desk.tallies()) == 1


@pytest.fixture
def beside(tuned, tmp_path):
    """Returns a function that makes a desk with another model, whose adapters differ."""

    def make(digest="0123456789", votes="votes.sqlite"):
        generator = torch.Generator().manual_seed(5)
        weights = {
            name: torch.randn(parameter.shape, generator=generator) * 0.2
            for name, parameter in tuned.named_parameters()
            if parameter.requires_grad
        }
        others = {"votes": OtherModel("votes/last.ckpt", digest, weights)}
        return Desk(Author(tuned, EXAMPLES, others), TrainingRows(EXAMPLES), Votes(tmp_path / votes), "tiny")

    return make


def test_another_model_is_compared_and_voted_on_beside_the_first(desk, beside):
    dialed = replace(DECODING, adapter_strength=1.5)
    both, alone = last(beside().compare("tab", "Egg Wins", dialed, 3)), last(desk.compare("tab", "Egg Wins", dialed, 3))
    assert [*both] == ["base", "few_shot", "tuned", "votes"]
    assert {name: both[name] for name in alone} == alone
    assert both["votes"] not in alone.values()
    assert both["votes"] != last(beside().compare("tab", "Egg Wins", DECODING, 3))["votes"]  # the dial is for it, too
    assert beside().description == "tiny; votes: votes/last.ckpt"
    assert last(desk.compare("tab", "Egg Wins", dialed, 3)) == alone


def test_votes_on_another_model_are_counted_by_its_content_and_apart_from_those_on_the_first(beside):
    first, later = beside(), beside(digest="another one")
    for number, (served, systems) in enumerate(
        [
            (first, ("votes", "tuned")),
            (later, ("tuned", "votes")),
            (first, ("base", "tuned")),
            (later, ("base", "tuned")),
        ]
    ):
        model = served.identity(*systems)
        served.pending["id"] = Pair(f"id{number}", "Egg", systems, ("a", "b"), model, "greedy")
        served.vote("tab", "id", "left")
    own = "Base model or Fine-tuned: Base model 2, Fine-tuned 0"
    assert [line.partition(", ties")[0] for line in first.tallies()] == [
        own,
        "Fine-tuned or votes: Fine-tuned 0, votes 1",
    ]
    assert [line.partition(", ties")[0] for line in later.tallies()] == [
        own,
        "Fine-tuned or votes: Fine-tuned 1, votes 0",
    ]
    pairs = set()
    while len(pairs) < 6:  # of four systems
        pair = first.pending[last(first.pair("tab", "Egg", replace(DECODING, max_new_tokens=1)))[2]]
        assert pair.model == ("tiny; votes: votes/last.ckpt (01234567)" if "votes" in pair.systems else "tiny")
        pairs.add(tuple(sorted(pair.systems)))


def test_where_no_example_fits_the_others_are_compared(desk):
    long = replace(DECODING, max_new_tokens=505 - len(desk.author.prompt(Request("Egg Wins", DECODING, 1))))
    compared = last(desk.compare("tab", "Egg Wins", replace(long, max_new_tokens=long.max_new_tokens + 5), 3))
    assert "no example that fits into the model's context; choose a shorter length" in compared["few_shot"]
    assert compared["base"]
    assert compared["tuned"]
    desk.rows.examples.clear()
    desk.author.examples.clear()
    pair_id = last(desk.pair("tab", "Egg Wins", DECODING))[2]
    assert set(desk.pending[pair_id].systems) == {"base", "tuned"}


def test_the_dial_does_not_change_what_is_voted_on(desk, monkeypatch):
    asked = []
    write = Author.write
    monkeypatch.setattr(
        Author, "write", lambda self, request, *stops: asked.append(request) or write(self, request, *stops)
    )
    list(desk.pair("tab", "Egg Wins", replace(DECODING, adapter_strength=0.3)))
    assert {request.decoding.adapter_strength for request in asked} == {1.0}
    assert len({request.seed for request in asked}) == 1


def test_a_closed_tab_stops_all_it_has_asked_for_and_nothing_else(desk):
    long = replace(DECODING, max_new_tokens=400)
    drafts = desk.compare("closing", "Egg Wins", long, 1)
    next(drafts)
    pairs = desk.pair("closing", "Egg Wins", long)
    next(pairs)
    desk.sessions.close("closing")
    stopped = last(drafts)
    assert all(len(desk.author.model.tokenizer(text).input_ids) < 300 for text in stopped.values())
    assert last(pairs)[2] == ""  # not to be voted on
    with pytest.raises(OnionError, match="The connection to the page was lost; try again"):
        next(desk.write("closing", "Egg Wins", DECODING, 1))
    assert len(last(desk.write("open", "Egg Wins", DECODING, 1))[0][0]) > 10


def test_a_copy_is_reported_with_its_headline_as_text(desk):
    said = desk.describe([Article(COPIED, 13, "eos"), Article("An egg.", 3, "length")])
    assert "Article 1: 13 tokens, ended by itself." in said
    assert (
        "Article 1: 13 words in a row are those of a training article, “A &lt;b&gt;Training&lt;/b&gt; Headline”" in said
    )
    assert "Article 2: 3 tokens, stopped at the length limit." in said
    assert said.count("in a row") == 1
    eleven = " ".join(COPIED.split()[:11])
    assert "in a row" not in desk.describe([Article(eleven, 11, "eos")])


def test_voting_is_limited_per_tab(desk):
    for number in range(VOTES_PER_MINUTE + 1):
        desk.pending[str(number)] = Pair(str(number), "Egg", ("base", "tuned"), ("a", "b"), "tiny", "greedy")
    for number in range(VOTES_PER_MINUTE):
        desk.vote("tab", str(number), "tie")
    with pytest.raises(OnionError, match="more than 30 votes in 60 seconds"):
        desk.vote("tab", str(VOTES_PER_MINUTE), "tie")
    assert desk.vote("another", str(VOTES_PER_MINUTE), "tie")


def test_the_limit_ends():
    now = [0.0]
    limit = RateLimit(2, 60, clock=lambda: now[0])
    limit.use("tab")
    now[0] = 30
    limit.use("tab")
    with pytest.raises(OnionError):
        limit.use("tab")
    now[0] = 60
    limit.use("tab")
    with pytest.raises(OnionError):
        limit.use("tab")


def test_an_event_of_an_open_tab_is_set_when_it_closes_and_forgotten_afterwards():
    now = [100.0]
    sessions = Sessions(clock=lambda: now[0])
    with sessions.request("a") as one, sessions.request("a") as two, sessions.request("b") as three:
        sessions.close("a")
        assert one.is_set()
        assert two.is_set()
        assert not three.is_set()
    assert not sessions.running
    now[0] += CLOSED_SECONDS - 0.1
    with pytest.raises(OnionError, match="connection to the page was lost"), sessions.request("a"):
        pass
    sessions.close("a")
    now[0] += CLOSED_SECONDS
    with sessions.request("a") as again:  # a connection that was lost for a while is back
        assert not again.is_set()


def test_the_end_of_the_server_stops_what_runs_and_refuses_what_waits():
    sessions = Sessions()
    with sessions.request("a") as running:
        sessions.close_all()
        assert running.is_set()
    with pytest.raises(OnionError, match="about to end"), sessions.request("b"):
        pass


def test_look_inside_needs_a_phrase_and_takes_the_headline_by_default(desk):
    page = desk.look("tab", "Egg Wins", "The town met the egg today.", "today", "")
    assert page.startswith('<iframe title="Attention" sandbox="allow-scripts"')
    for words, says in (
        (("Egg", "", "today", ""), "Select a phrase"),
        (("Egg", "An egg.", " ", ""), "Select a phrase"),
        (("", "An egg today.", "today", ""), "Give an earlier phrase"),
        (("Egg", "An egg.", "zebra", ""), "zebra"),
        (("Egg", "x" * 20_001, "x", ""), "shorten it to 20000"),
    ):
        with pytest.raises(OnionError, match=says):
            desk.look("tab", *words)
    assert not desk.author.turn.locked()


def test_looking_inside_waits_for_its_turn(desk):
    done = []
    with desk.author.turn:
        thread = threading.Thread(target=lambda: done.append(desk.look("tab", "Egg", "An egg today.", "today", "")))
        thread.start()
        time.sleep(0.3)
        assert not done
    thread.join()
    assert done


def test_a_tally_in_words():
    assert describe_tally(Tally(("base", "tuned"), (1, 9), 2, 3)) == (
        "Base model or Fine-tuned: Base model 1, Fine-tuned 9, ties 2, neither 3. Base model is preferred in 10% (95%"
        " interval 2% to 40%)."
    )
    assert describe_tally(Tally(("base", "tuned"), (0, 0), 1, 0)).endswith("ties 1, neither 0.")
