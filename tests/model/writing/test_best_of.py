"""The best of several articles: their scores, checked with plain passes of the model, and their order."""

import math
from dataclasses import replace

import pytest
import torch

from onion_lightning.data.prompt import encode_prompt, encode_texts
from onion_lightning.errors import NonFiniteError, OnionError
from onion_lightning.model.adapters.switches import scaled_adapters
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import Decoding, continue_ids
from onion_lightning.model.writing.best_of import rank_articles, score, write_articles
from onion_lightning.model.writing.copying import CopyIndex
from tests.conftest import module
from tests.model.writing.test_losses import loss_alone

HEADLINES = ["Egg Wins", "A Longer Headline Of Many Words"]
SIX = Decoding(max_new_tokens=20, temperature=1.0, best_of=6)
COPIED = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture(params=["none", "int8"])
def tuned(tiny_base, request):
    """A module whose adapters change what it computes, and that ends some of its articles."""
    made = module(tiny_base, load_in=request.param)
    made.model.get_base_model().lm_head.weight.data[made.tokenizer.eos_token_id] *= 3
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return made


def write(made, decoding, seed=3):
    return write_articles(made.language_model, made.tokenizer, HEADLINES, decoding, seed)


def unranked(article):
    return article._replace(score=None)


def test_the_articles_are_those_of_as_many_candidates_in_another_order(tuned):
    plain = write(tuned, replace(SIX, best_of=1, candidates=6))
    everything = write(tuned, replace(SIX, candidates=6))
    for before, after in zip(plain, everything, strict=True):
        assert [article.candidate for article in before] == [*range(6)]
        assert [unranked(one) for one in sorted(after, key=lambda article: article.candidate)] == before
        keys = [(one.text == "", one.finish_reason != "eos", -one.score) for one in after]
        assert keys == sorted(keys)
    assert {one.finish_reason for articles in everything for one in articles} == {"eos", "length"}
    for kept in (1, 3):
        assert write(tuned, replace(SIX, candidates=kept)) == [articles[:kept] for articles in everything]


@pytest.mark.parametrize("strength", [1.0, 0.0, 1.5])
def test_a_score_is_the_gain_in_log_probability_from_the_headline_per_token(tuned, strength):
    decoding = replace(SIX, adapter_strength=strength, candidates=6)
    model, tokenizer = tuned.language_model, tuned.tokenizer
    prompts = [encode_prompt(tokenizer, headline) for headline in HEADLINES]
    ids = continue_ids(model, tokenizer, prompts, decoding, 3)
    empty = encode_prompt(tokenizer, "")
    assert len(empty) > 10  # the template alone
    tuned.eval()
    for prompt, rows, articles in zip(prompts, ids, write(tuned, decoding), strict=True):
        for article in articles:
            row = rows[article.candidate]
            assert len(row) == article.tokens + (article.finish_reason == "eos")
            with torch.no_grad(), scaled_adapters(model, strength):
                gain = loss_alone(tuned, empty, row) - loss_alone(tuned, prompt, row)
            assert article.score == pytest.approx(gain / len(row), abs=1e-5 if tuned.load_in == "none" else 0.02)


def test_faults_come_last_however_high_their_score():
    """A loop, a copied run and no ending count one each; an empty article is behind all."""
    index = CopyIndex(["Egg"], [f"before {COPIED} after"])
    loop = "a b c d e f g h and then a b c d e f g h"
    texts = {
        "good": ("An egg.", "eos", 0.1),
        "better": ("Another egg.", "eos", 0.2),
        "loop": (loop, "eos", 3.0),
        "copy": (f"He said {COPIED}.", "eos", 2.0),
        "unended": ("An egg that", "length", 1.0),
        "copy without end": (COPIED, "length", 9.0),
        "all": (f"{loop} {COPIED}", "length", 9.0),
        "empty": ("", "eos", 9.0),
    }
    articles = [Article(text, 9, reason, number) for number, (text, reason, _) in enumerate(texts.values())]
    scores = [one for _, _, one in texts.values()]

    def order(copies):
        return [[*texts][article.candidate] for article in rank_articles(articles, scores, copies)]

    expected = ["better", "good", "loop", "copy", "unended", "copy without end", "all", "empty"]
    assert order(index) == expected
    assert order(None)[:4] == ["copy", "better", "good", "copy without end"]
    assert [one.score for one in rank_articles(articles, scores, index)][:2] == [0.2, 0.1]


def test_a_score_that_is_not_finite_is_an_error(tuned):
    [ids] = encode_texts(tuned.tokenizer, ["An egg."])
    tuned.language_model.get_output_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="the score of an article is not finite"):
        score(tuned.language_model, tuned.tokenizer, [ids], [[ids]])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"best_of": 2, "candidates": 3}, "--model.best_of 2: is less than --model.candidates 3, the number to keep"),
        ({"best_of": 8, "temperature": 0.0}, "--model.best_of 8: with --model.temperature 0 all candidates would be"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(flags, says):
    with pytest.raises(OnionError, match=says):
        Decoding(**flags)


def test_no_headlines_give_no_articles(tuned):
    assert write_articles(tuned.language_model, tuned.tokenizer, [], SIX) == []
