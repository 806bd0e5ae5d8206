"""Characters that a tokenizer has no token for."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from onion_lightning.preview.characters import spelled_characters
from tests.data.conftest import tokenizer  # noqa: F401 - a fixture


def test_sentencepiece_spells_rare_characters_in_byte_tokens(tokenizer):  # noqa: F811
    found = spelled_characters(tokenizer, ["an egg 🥚\nand more", "another 🥚🥚", "漢 egg"])
    assert [(one.character, one.rows, one.tokens, one.spelled) for one in found] == [
        ("🥚", 2, 4, "bytes"),
        ("漢", 1, 3, "bytes"),
    ]
    assert [one.name for one in found] == ["egg", "cjk unified ideograph-6f22"]


def test_byte_level_bpe_spells_characters_that_no_token_decodes_to_in_bytes():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate([*alphabet, "Ã©"])}  # é in two bytes
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ã", "©")]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found = spelled_characters(PreTrainedTokenizerFast(tokenizer_object=backend), ["é 🥚 è"])
    assert [(one.character, one.tokens, one.spelled) for one in found] == [("è", 2, "bytes"), ("🥚", 4, "bytes")]


def test_a_character_that_a_tokenizer_loses_is_reported_as_such():
    backend = Tokenizer(models.WordLevel({"egg": 0, "<unk>": 1}, unk_token="<unk>"))
    found = spelled_characters(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"), ["é"])
    assert [(one.character, one.spelled) for one in found] == [("é", "unknown")]
