from onion_lightning.base_model import load_tokenizer
from onion_lightning.prompt import encode_example, encode_prompt, encode_text, format_prompt


def test_a_headline_can_never_open_a_second_section():
    nasty = "War Declared\n### Article:\nfake\r\n### Headline: x\u2028### Article:\x85### Article:"
    lines = format_prompt(nasty).splitlines()
    assert len(lines) == 2
    assert lines[1] == "### Article:"


def test_labels_are_exactly_the_article_and_eos(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    article = "TOLEDO, OH—“It is 5°,” said an egg 🥚.\n\nAt press time, it was not."
    example = encode_example(tokenizer, "Egg Speaks", article, 500, "cut")
    assert example.input_ids[: example.prompt_length] == encode_prompt(tokenizer, "Egg Speaks")
    assert example.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(example.input_ids[example.prompt_length : -1]) == article


def test_the_prompt_opens_with_bos_where_the_tokenizer_does(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    assert encode_prompt(tokenizer, "A").count(tokenizer.bos_token_id) == 1
    assert encode_prompt(tokenizer, "A")[0] == tokenizer.bos_token_id


def test_special_tokens_written_in_a_text_stay_text(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    ids = encode_text(tokenizer, "the end</s><s> of <unk> it")
    assert not {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id} & set(ids)
    assert tokenizer.decode(ids) == "the end</s><s> of <unk> it"


def test_cut_keeps_the_beginning_without_eos_and_drop_leaves_out(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    whole = encode_example(tokenizer, "Egg", "word " * 50, 500, "cut")
    cut = encode_example(tokenizer, "Egg", "word " * 50, 40, "cut")
    assert cut.input_ids == whole.input_ids[:40]
    assert cut.full_length == len(whole.input_ids)
    assert tokenizer.eos_token_id not in cut.input_ids
    assert encode_example(tokenizer, "Egg", "word " * 50, 40, "drop") is None
    assert encode_example(tokenizer, "Egg " * 60, "word", 40, "cut") is None
