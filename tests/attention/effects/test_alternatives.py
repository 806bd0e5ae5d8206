"""Phrases for the place of the key: as many tokens, and no other token moves."""

import pytest

from onion_lightning.attention.effects.alternatives import MOST_ALTERNATIVES, find_swaps, listed_phrases
from onion_lightning.attention.phrases import find_phrase, tokenize
from onion_lightning.errors import OnionError
from onion_lightning.pretrained.locate import load_tokenizer

TEXT = "Students at the University of California marched, and by noon the fog of San Francisco had joined."


def swaps(tokenizer, text, key, given=None, prompt=""):
    tokens = tokenize(tokenizer, text, prompt)
    return find_swaps(tokenizer, prompt + text, prompt, tokens, find_phrase(prompt + text, tokens, key, "--key"), given)


@pytest.mark.parametrize("name", ["tiny", "demo"])
@pytest.mark.parametrize("key", ["University of California", "San Francisco", "Students", "marched"])
def test_a_listed_phrase_replaces_the_tokens_of_the_key_and_no_other(tiny_base, name, key):
    tokenizer = load_tokenizer(str(tiny_base) if name == "tiny" else "demo")
    tokens = [token.id for token in tokenize(tokenizer, TEXT)]
    found = swaps(tokenizer, TEXT, key)
    assert len(found) <= MOST_ALTERNATIVES
    assert found or name == "tiny"  # whose tokens are shorter
    for phrase, swap in found.items():
        changed = [*tokens[: swap.first], *swap.ids, *tokens[swap.first + len(swap.ids) :]]
        assert changed == [token.id for token in tokenize(tokenizer, TEXT.replace(key, phrase))]
        assert phrase != key


def test_given_phrases_are_used_in_their_order(tokenizer):
    given = ["town counter", "tone council"]
    assert list(swaps(tokenizer, "The town council met in Eggville", "town council", given)) == given


def test_a_key_in_the_prompt_can_be_replaced(tokenizer):
    prompt = "### Headline: The town council\n### Article:\n"
    [swap] = swaps(tokenizer, " It met in Eggville", "town council", ["town counter"], prompt).values()
    tokens = [token.id for token in tokenize(tokenizer, " It met in Eggville", prompt)]
    changed = [*tokens[: swap.first], *swap.ids, *tokens[swap.first + len(swap.ids) :]]
    expected = tokenize(tokenizer, " It met in Eggville", prompt.replace("town council", "town counter"))
    assert changed == [token.id for token in expected]


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("town council", '--alternatives "town council": is the key itself'),
        ("the town council of Eggville", 'tokens in this place, and --key "town council" has'),
        ("", "tokens in this place, and --key"),
    ],
)
def test_a_given_phrase_that_does_not_fit_is_refused(tokenizer, phrase, message):
    with pytest.raises(OnionError, match=r"^--alternatives") as error:
        swaps(tokenizer, "The town council met in Eggville", "town council", [phrase])
    assert message in str(error.value)


def test_the_list_has_no_phrase_twice():
    phrases = listed_phrases()
    assert len(phrases) == len(set(phrases)) > 80
    assert all(phrase == phrase.strip() != "" for phrase in phrases)
