"""The tokens of a row, their texts, and which of them are supervised."""

import pytest
import torch

from onion_lightning.data.collate import collate
from onion_lightning.data.prompt import encode_examples
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.preview.tokens import seen_tokens, supervised_positions
from tests.data.conftest import tokenizer  # noqa: F401 - a fixture

HEADLINES = ["Egg Wins", "Second Egg"]
ARTICLES = ["It was an egg.\nIt  won 🥚 é.", "Another one."]


@pytest.fixture
def batch(tokenizer):  # noqa: F811
    rows = encode_examples(tokenizer, HEADLINES, ARTICLES, 200, "cut")
    ids, prompts = [row.input_ids for row in rows], [row.prompt_length for row in rows]
    return collate(ids, prompts, MicroBatch((0, 1), 1, 1, 0))


def test_the_ids_and_the_mask_are_those_of_the_batch(batch, tokenizer):  # noqa: F811
    tokens = [seen_tokens(batch, at, tokenizer) for at in (0, 1)]
    flat = [(number, token.supervised) for row in tokens for token in row for number in token.ids]
    assert [number for number, _ in flat] == batch["input_ids"].tolist()
    assert [number for number, yes in flat if yes] == batch["targets"].tolist()
    after = (batch["predictors"] + 1).tolist()
    assert [at for at, (_, yes) in enumerate(flat) if yes] == after
    assert [sum(len(token.ids) for token in row) for row in tokens] == batch["row_lengths"]


def test_prompt_and_article_can_be_read_and_special_tokens_are_named(batch, tokenizer):  # noqa: F811
    first, *middle, last = seen_tokens(batch, 0, tokenizer)
    assert (first.name, first.text, first.supervised) == ("BOS", "<s>", False)
    assert (last.name, last.text, last.supervised) == ("EOS", "</s>", True)
    assert not any(token.name for token in middle)
    prompt = "".join(token.text for token in middle if not token.supervised)
    article = "".join(token.text for token in middle if token.supervised)
    assert prompt.strip() == "### Headline: Egg Wins\n### Article:"
    assert article.strip() == ARTICLES[0]


def test_the_bytes_of_a_character_are_one_token_with_several_ids(batch, tokenizer):  # noqa: F811
    (egg,) = [token for token in seen_tokens(batch, 0, tokenizer) if "🥚" in token.text]
    assert egg.text == "🥚"
    assert tokenizer.convert_ids_to_tokens(list(egg.ids)) == ["<0xF0>", "<0x9F>", "<0xA5>", "<0x9A>"]


def test_a_row_that_is_cut_within_a_character_shows_the_bytes_that_remain(tokenizer):  # noqa: F811
    (whole,) = encode_examples(tokenizer, ["Egg"], ["🥚"], 100, "cut")
    ids = whole.input_ids[:-3]  # without EOS and two of four bytes
    batch = collate([ids], [whole.prompt_length], MicroBatch((0,), 1, 1, 0))
    last = seen_tokens(batch, 0, tokenizer)[-1]
    assert last.text == "<0xF0><0x9F>"
    assert last.supervised


def test_a_batch_whose_targets_are_not_its_tokens_is_an_error(batch):
    batch["targets"] = batch["targets"].roll(1)
    with pytest.raises(AssertionError):
        supervised_positions(batch)


def test_the_mask_is_boolean_and_as_long_as_the_batch(batch):
    mask = supervised_positions(batch)
    assert mask.dtype == torch.bool
    assert mask.shape == batch["input_ids"].shape
