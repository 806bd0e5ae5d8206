"""Finding a phrase: prefix space, curly quotes, emoji, parts of tokens, repeated phrases."""

import pytest

from onion_lightning.attention.phrases import find_phrase, token_texts, tokenize
from onion_lightning.errors import OnionError


def find(tokenizer, text, phrase, prompt=""):
    tokens = tokenize(tokenizer, text, prompt)
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
def test_the_tokens_of_a_phrase_contain_its_characters_and_no_adjacent_word(tokenizer, text, phrase):
    found, tokens = find(tokenizer, text, phrase)
    assert text[found.start : found.end] == phrase
    inside = tokens[found.first : found.stop]
    covered = text[inside[0].start : inside[-1].end]
    assert phrase in covered
    before = tokens[found.first - 1]
    assert before.end <= found.start  # the token before contains none of it
    if found.stop < len(tokens):
        assert tokens[found.stop].start >= found.end


def test_token_ids_are_the_same_as_in_training(tokenizer):
    from onion_lightning.data.prompt import encode_prompt, encode_texts, format_prompt

    article = "The 🥚 said </s> “no”."
    ids = [token.id for token in tokenize(tokenizer, article, format_prompt("Egg"))]
    assert ids == encode_prompt(tokenizer, "Egg") + encode_texts(tokenizer, [article])[0]


def test_the_first_word_is_found_after_sentencepieces_prefix_space(tokenizer):
    found, tokens = find(tokenizer, "Town declares war", "Town")
    assert found.first == 1  # after BOS
    assert "".join(tokenizer.convert_ids_to_tokens([t.id for t in tokens[found.first : found.stop]])) == "▁Town"


def test_part_of_a_word_is_covered_by_the_tokens_that_it_is_split_into(tokenizer):
    text = "the unremarkable egg"
    found, tokens = find(tokenizer, text, "remark")
    inside = tokens[found.first : found.stop]
    assert inside[0].start <= text.index("remark") < inside[0].end
    assert inside[-1].start < text.index("able") <= inside[-1].end
    assert len(inside) < len(find(tokenizer, text, text)[1]) - 1


@pytest.mark.parametrize("wanted", ["egg ", " egg", " egg ", "egg #1"])
def test_white_space_around_a_phrase_adds_no_adjacent_word(tokenizer, wanted):
    text = "The egg declared war"
    assert find(tokenizer, text, wanted) == find(tokenizer, text, "egg")


def test_a_number_selects_the_occurrence(tokenizer):
    text = "egg and egg and egg"
    starts = [find(tokenizer, text, phrase)[0].start for phrase in ("egg", "egg#1", "egg#2", "egg#3")]
    assert starts == [0, 0, 8, 16]


def test_a_number_sign_in_the_text_is_matched_literally(tokenizer):
    assert find(tokenizer, "Room egg#2 is closed", "egg#2")[0].start == 5


def test_character_offsets_count_from_the_beginning_of_the_prompt(tokenizer):
    found, _ = find(tokenizer, "An egg.", "egg", prompt="### Headline: Egg\n")
    assert found.start == len("### Headline: Egg\n") + 3


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("san francisco", 'most similar phrases are "San Francisco"'),
        ("San Fransisco", '"San Francisco"'),
        ("we're sorry", '"We’re sorry"'),
        ("xyzzy plugh", "no similar phrase does"),
        ("  ", "is empty"),
        ("San#9", "occurs once; give a number from #1 to #1"),
        ("San#0", "give a number from #1 to #1"),
    ],
)
def test_a_phrase_that_does_not_occur_is_rejected_with_the_most_similar_ones(tokenizer, phrase, message):
    with pytest.raises(OnionError, match="--query") as error:
        find(tokenizer, "“We’re sorry,” said the mayor of San Francisco.", phrase)
    assert message in str(error.value)


def test_an_empty_text_is_rejected(tokenizer):
    with pytest.raises(OnionError, match="--text: is empty"):
        tokenize(tokenizer, " \n")


def test_the_texts_of_tokens_add_up_to_the_text(tokenizer):
    text = "The 🥚 met  the town."
    tokens = tokenize(tokenizer, text)
    texts = token_texts(tokenizer, text, tokens)
    assert texts[0] == "<s>"
    assert "".join(texts[1:]).strip() == text
