"""OnionModule on a tiny Llama: its flags, and the articles that it generates."""

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.model.module import OnionModule
from tests.conftest import module


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_gives_the_same_articles(tiny_base, temperature):
    made = module(tiny_base, temperature=temperature, max_new_tokens=12)
    made.eval()
    first, second = (made.write(["Egg Wins", "A Longer Headline Of Many Words"], seed=5) for _ in range(2))
    assert first == second
    assert all(one[0].tokens <= 12 for one in first)
    assert (made.write(["Egg Wins", "A Longer Headline Of Many Words"], seed=6) == first) == (temperature == 0)


def test_a_predicted_batch_has_a_record_for_each_headline_and_candidate(tiny_base):
    made = module(tiny_base, temperature=1.0, max_new_tokens=6, candidates=2)
    predicted = made.predict_step({"headlines": ["Egg Wins", "Man Loses"], "rows": [4, 2], "index": 3}, 0)
    assert predicted.index == 3
    assert [(r.index, r.candidate, r.headline) for r in predicted.articles] == [
        (4, 0, "Egg Wins"),
        (4, 1, "Egg Wins"),
        (2, 0, "Man Loses"),
        (2, 1, "Man Loses"),
    ]
    assert made.predict_step({"headlines": [], "rows": [], "index": 7}, 0).articles == []


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("lora_rank", 0),
        ("lora_dropout", 1.0),
        ("learning_rate", 0.0),
        ("warmup_ratio", 2.0),
        ("target_modules", []),
        ("max_new_tokens", 0),
        ("temperature", -1.0),
        ("top_p", 0.0),
        ("repetition_penalty", 0.0),
        ("candidates", 0),
    ],
)
def test_a_value_out_of_range_is_reported_in_one_sentence(flag, value):
    with pytest.raises(OnionError, match=rf"^--model\.{flag} .*: must be "):
        OnionModule(**{flag: value})


def test_several_greedy_candidates_are_refused_because_they_would_be_identical():
    with pytest.raises(OnionError, match=r"^--model\.candidates 3"):
        OnionModule(temperature=0.0, candidates=3)
