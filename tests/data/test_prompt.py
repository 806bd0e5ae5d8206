"""Prompts and training examples as token ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onion_lightning.data.cleaning.rows import clean_row
from onion_lightning.data.prompt import encode_examples, encode_prompt, encode_texts, format_prompt

MARKERS = ("### Headline: ", "### Article:\n", "</s>", "<s>", "<unk>", "\n", "\u2028", "<|im_end|>", "[INST]", "&#10;")
TEXTS = st.lists(st.text(max_size=12) | st.sampled_from(MARKERS) | st.sampled_from("éß“”—🥚ש"), max_size=12).map(
    "".join
)


def encode_one(tokenizer, headline, article, max_length=5000, overflow="cut"):
    return encode_examples(tokenizer, [headline], [article], max_length, overflow)[0]


@settings(max_examples=300)
@given(TEXTS)
def test_a_headline_can_never_start_a_section(headline):
    lines = format_prompt("War " + headline).splitlines()
    assert len(lines) == 2
    assert lines[1] == "### Article:"


@settings(max_examples=300, deadline=None)
@given(headline=TEXTS, article=TEXTS)
def test_labels_are_exactly_the_cleaned_article_and_eos(tokenizer, headline, article):
    row = clean_row(headline, article)
    example = encode_one(tokenizer, row.headline, row.article)
    labels = example.input_ids[example.prompt_length :]
    assert example.input_ids[: example.prompt_length] == encode_prompt(tokenizer, row.headline)
    assert labels.pop() == tokenizer.eos_token_id
    assert not {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id} & set(labels)
    assert tokenizer.decode(labels) == row.article


def test_pairs_encoded_in_one_batch_equal_pairs_encoded_one_by_one(tokenizer):
    headlines, articles = ["Egg", "A Longer Headline"], ["It won.", "Nobody knew, “sources” said."]
    separately = [encode_one(tokenizer, *pair) for pair in zip(headlines, articles, strict=True)]
    assert encode_examples(tokenizer, headlines, articles, 5000, "cut") == separately


def test_a_prompt_starts_with_one_bos_if_the_tokenizer_adds_it(tokenizer):
    assert encode_prompt(tokenizer, "A").count(tokenizer.bos_token_id) == 1
    assert encode_prompt(tokenizer, "A")[0] == tokenizer.bos_token_id


def test_special_tokens_that_appear_in_a_text_are_encoded_as_text(tokenizer):
    ids = encode_texts(tokenizer, ["the end</s><s> of <unk> it"])[0]
    assert not {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id} & set(ids)
    assert tokenizer.decode(ids) == "the end</s><s> of <unk> it"


def test_cut_keeps_the_beginning_without_eos_and_drop_discards_the_example(tokenizer):
    whole = encode_one(tokenizer, "Egg", "word " * 50)
    cut = encode_one(tokenizer, "Egg", "word " * 50, 40)
    assert cut.input_ids == whole.input_ids[:40]
    assert cut.full_length == len(whole.input_ids)
    assert tokenizer.eos_token_id not in cut.input_ids
    assert encode_one(tokenizer, "Egg", "word " * 50, 40, "drop") is None
    assert encode_one(tokenizer, "Egg " * 60, "word", 40) is None


@pytest.mark.parametrize("special", [False, True])
def test_texts_have_the_ids_that_the_tokenizer_returns_whatever_it_was_used_for_before(tokenizer, special):
    texts = ["Egg wins.", "", "the end</s><s> of “it”", "a much longer text\n" * 20]
    expected = tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids
    tokenizer(texts, truncation=True, max_length=5, split_special_tokens=special)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert encode_texts(tokenizer, texts) == expected


def test_a_tokenizer_without_a_backend_gives_the_same_ids(tokenizer):
    class Slow:
        def __call__(self, texts, **options):
            return tokenizer(texts, **options)

    texts = ["Egg wins.", "the end</s><s> of “it”"]
    assert encode_texts(Slow(), texts) == encode_texts(tokenizer, texts)
