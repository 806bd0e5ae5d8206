"""Articles are streamed, stopped, and not mixed up with those of other requests."""

import contextlib
import threading
import time
from dataclasses import replace

import pytest
import torch

from onion_lightning.errors import OnionError
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.writing.best_of import write_articles
from onion_lightning.seeding import mix_seed
from onion_lightning.serving.author import Author, Request, TokenQueue

DECODING = Decoding(max_new_tokens=20)
SYSTEMS = ("tuned", "base")
EXAMPLES = [[1, 30, 31, 32], [1, 40, 41, 42]]


@pytest.fixture
def author(tuned):
    return Author(tuned, EXAMPLES)


def expected(author, request):
    model = author.model.language_model
    adapters = contextlib.nullcontext() if request.system == "tuned" else author.model.model.disable_adapter()
    with adapters:
        [articles] = write_articles(
            model, author.model.tokenizer, [request.headline], request.decoding, mix_seed(request.seed, 0)
        )
    return articles


def last(author, request):
    return list(author.write(request))[-1]


@pytest.mark.parametrize("decoding", [DECODING, replace(DECODING, candidates=3, adapter_strength=1.5)])
@pytest.mark.parametrize("system", ["tuned", "base"])
def test_what_is_streamed_is_what_predict_writes(author, decoding, system):
    request = Request("Egg Wins", decoding, 7, system)
    drafts = list(author.write(request))
    assert drafts[-1].articles == expected(author, request)
    assert drafts[-1].texts == [article.text for article in drafts[-1].articles]
    assert drafts[0].texts == [""] * decoding.candidates
    for draft in drafts:
        assert len(draft.texts) == decoding.candidates
    assert all(draft.articles is None for draft in drafts[:-1])


def test_a_row_that_has_ended_gets_no_padding():
    """With a large vocabulary, id 0 is a visible token."""
    tokens = TokenQueue(eos=2)
    tokens.put(torch.tensor([[1, 9]]))
    tokens.put(torch.tensor([5, 2]))
    rows = tokens.rows(2)
    assert next(rows) == [[5], [2]]
    time.sleep(0.1)  # drafts are shown at most every 50 ms
    tokens.put(torch.tensor([6, 0]))
    assert next(rows) == [[5, 6], [2]]


def test_few_shot_examples_precede_the_prompt_and_leave_room(author):
    prompt = author.prompt(Request("Egg Wins", DECODING, 1, "few_shot"))
    plain = author.prompt(Request("Egg Wins", DECODING, 1))
    assert prompt == [1, 30, 31, 32, 40, 41, 42, *plain[1:]]
    room = replace(DECODING, max_new_tokens=512 - len(plain) - 4)
    assert author.prompt(Request("Egg Wins", room, 1, "few_shot")) == [1, 30, 31, 32, *plain[1:]]
    with pytest.raises(OnionError, match="no example that fits into the model's context; choose a shorter length"):
        author.prompt(Request("Egg Wins", replace(DECODING, max_new_tokens=600), 1, "few_shot"))


def test_without_examples_there_is_no_few_shot(tuned):
    assert Author(tuned).systems == ("base", "tuned")
    with pytest.raises(OnionError, match="the corpus could not be read"):
        list(Author(tuned).write(Request("Egg", DECODING, 1, "few_shot")))


def test_a_system_that_is_not_there_is_one_sentence(author):
    with pytest.raises(OnionError, match="nobody is not one of base, few_shot, tuned"):
        list(author.write(Request("Egg", DECODING, 1, "nobody")))


def test_fifty_requests_at_once_get_their_own_articles(author):
    requests = [
        Request(
            f"Egg {n % 7} Wins",
            replace(DECODING, adapter_strength=(n % 4) / 2, temperature=0.5 + n % 3),
            n,
            ("tuned", "base")[n % 2],
        )
        for n in range(50)
    ]
    alone = [expected(author, request) for request in requests]
    together = [None] * len(requests)

    def work(number):
        together[number] = last(author, requests[number]).articles

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("how", ["close", "event"])
def test_a_request_that_nobody_waits_for_frees_the_model(author, monkeypatch, how):
    long = Request("Egg Wins", replace(DECODING, max_new_tokens=400), 1)
    written, generate = [], Author.generate
    monkeypatch.setattr(Author, "generate", lambda *args: written.extend(generate(*args)) or written)
    whole = last(author, long).articles[0].tokens
    assert whole > 200
    written.clear()
    stop = threading.Event()
    drafts = author.write(long, stop)
    next(drafts)
    next(drafts)
    if how == "close":
        drafts.close()
    else:
        stop.set()
        list(drafts)
    with author.turn:
        assert 0 < written[0].tokens < whole


def test_waiting_for_a_turn_repeats_the_draft(author):
    with author.turn:
        drafts = author.write(Request("Egg Wins", DECODING, 1))
        began = time.monotonic()
        assert [next(drafts).texts for _ in range(4)] == [[""]] * 4
        assert 0.5 < time.monotonic() - began < 3
        drafts.close()


def test_an_error_while_generating_reaches_the_request_and_frees_the_model(author):
    with pytest.raises(OnionError, match="leaves no room for an article in the model's context of 512"):
        list(author.write(Request("🥚" * 290, DECODING, 1)))
    assert not author.turn.locked()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"headline": "  "}, "The headline is empty"),
        ({"headline": "egg" * 101}, "has 303 characters; shorten it to 300"),
        ({"decoding": replace(DECODING, max_new_tokens=1001)}, "At most 1000 tokens and 4 candidates"),
        ({"decoding": replace(DECODING, candidates=5)}, "At most 1000 tokens and 4 candidates"),
        ({"seed": -1}, "The seed -1 is out of range"),
        ({"seed": 2**63}, "out of range"),
    ],
)
def test_a_request_beyond_the_limits_is_one_sentence(more, says):
    with pytest.raises(OnionError, match=says):
        Request(**({"headline": "Egg", "decoding": DECODING, "seed": 1} | more))
