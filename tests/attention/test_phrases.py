"""Phrases to tokens: prefix space, curly quotes, emoji, parts of tokens, repeats."""

import pytest

from onion_lightning.attention.phrases import find_phrase, tokens_of_text
from onion_lightning.errors import OnionError
from onion_lightning.pretrained.source import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


def find(tokenizer, text, phrase, prompt=""):
    tokens = tokens_of_text(tokenizer, text, prompt)
    return find_phrase(prompt + text, tokens, phrase, "--query"), tokens


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("The egg declared war on the town.", "The egg"),
        ("The egg declared war on the town.", "war"),
        ("The egg declared war on the town.", "the town"),
        ("“We’re sorry,” said the egg.", "“We’re sorry,”"),
        ("The 🥚 met the 👩‍🚀 at noon.", "🥚"),
        ("The 🥚 met the 👩‍🚀 at noon.", "👩‍🚀"),
        ("Eggs\n\n  of  the night", "of  the"),
        ("مجلس eggs", "مجلس"),
    ],
)
def test_a_phrases_tokens_hold_its_characters_and_no_word_beside_it(tokenizer, text, phrase):
    found, tokens = find(tokenizer, text, phrase)
    assert text[found.start : found.end] == phrase
    inside = tokens[found.first : found.stop]
    covered = text[inside[0].start : inside[-1].end]
    assert phrase in covered
    before = tokens[found.first - 1]
    assert before.end <= found.start  # the token before holds none of it
    if found.stop < len(tokens):
        assert tokens[found.stop].start >= found.end


def test_ids_are_those_that_the_model_gets_in_training(tokenizer):
    from onion_lightning.data.prompt import encode_prompt, encode_texts, format_prompt

    article = "The 🥚 said </s> “no”."
    ids = [token.id for token in tokens_of_text(tokenizer, article, format_prompt("Egg"))]
    assert ids == encode_prompt(tokenizer, "Egg") + encode_texts(tokenizer, [article])[0]


def test_the_first_word_is_found_behind_sentencepieces_prefix_space(tokenizer):
    found, tokens = find(tokenizer, "Town declares war", "Town")
    assert found.first == 1  # after BOS
    assert "".join(tokenizer.convert_ids_to_tokens([t.id for t in tokens[found.first : found.stop]])) == "▁Town"


def test_part_of_a_word_takes_the_tokens_that_it_is_split_across(tokenizer):
    text = "the unremarkable egg"
    found, tokens = find(tokenizer, text, "remark")
    inside = tokens[found.first : found.stop]
    assert inside[0].start <= text.index("remark") < inside[0].end
    assert inside[-1].start < text.index("able") <= inside[-1].end
    assert len(inside) < len(find(tokenizer, text, text)[1]) - 1


@pytest.mark.parametrize("wanted", ["egg ", " egg", " egg ", "egg #1"])
def test_white_space_around_a_phrase_takes_in_no_word_beside_it(tokenizer, wanted):
    text = "The egg declared war"
    assert find(tokenizer, text, wanted) == find(tokenizer, text, "egg")


def test_a_number_names_the_occurrence(tokenizer):
    text = "egg and egg and egg"
    starts = [find(tokenizer, text, phrase)[0].start for phrase in ("egg", "egg#1", "egg#2", "egg#3")]
    assert starts == [0, 0, 8, 16]


def test_a_text_that_holds_the_number_sign_itself_is_found_as_written(tokenizer):
    assert find(tokenizer, "Room egg#2 is closed", "egg#2")[0].start == 5


def test_characters_count_from_the_prompts_beginning(tokenizer):
    found, _ = find(tokenizer, "An egg.", "egg", prompt="### Headline: Egg\n")
    assert found.start == len("### Headline: Egg\n") + 3


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("san francisco", 'nearest are "San Francisco"'),
        ("San Fransisco", '"San Francisco"'),
        ("we're sorry", '"We’re sorry"'),
        ("xyzzy plugh", "nothing is like it"),
        ("  ", "is empty"),
        ("San#9", "occurs 1 times; give #1 to #1"),
        ("San#0", "give #1 to #1"),
    ],
)
def test_a_phrase_that_does_not_occur_is_told_with_the_nearest(tokenizer, phrase, said):
    with pytest.raises(OnionError, match="--query") as refused:
        find(tokenizer, "“We’re sorry,” said the mayor of San Francisco.", phrase)
    assert said in str(refused.value)


def test_an_empty_text_is_refused(tokenizer):
    with pytest.raises(OnionError, match="--text: is empty"):
        tokens_of_text(tokenizer, " \n")
