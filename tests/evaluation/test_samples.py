"""Measures of an article in its JSON form."""

from onion_lightning.evaluation.samples import measure_article
from onion_lightning.evaluation.tasks import ScoredArticle
from onion_lightning.model.writing.copying import CopyIndex

TRAINING = "One two three four five six seven eight nine ten eleven twelve thirteen."


def measure(text, **more):
    article = ScoredArticle(0, "tuned", text, **({"rank": 4, "loss": 9.5, "tokens": 13, "finish_reason": "eos"} | more))
    return measure_article("Egg", article, CopyIndex(["Counting"], [TRAINING])).to_json()


def test_twelve_consecutive_words_count_as_copied_and_eleven_do_not():
    twelve, eleven = (" ".join(TRAINING.split()[:count]) for count in (12, 11))
    assert (measure(twelve)["copied_words"], measure(twelve)["copied_from"]) == (12, "Counting")
    assert measure(twelve)["copied_rate"] is True
    assert measure(eleven)["copied_words"] == 11
    assert measure(eleven)["copied_rate"] is False


def test_rank_and_finish_reason_become_measures():
    ended, cut, first = measure("An egg."), measure("An egg", finish_reason="length"), measure("An egg.", rank=1)
    assert (ended["headline_rank"], ended["headline_top_1"], ended["headline_mrr"]) == (4, False, 0.25)
    assert (first["headline_top_1"], first["headline_mrr"]) == (True, 1)
    assert (ended["eos_rate"], ended["cut_rate"]) == (True, False)
    assert (cut["eos_rate"], cut["cut_rate"]) == (False, True)
    assert (ended["loss"], ended["new_tokens"]) == (9.5, 13)
