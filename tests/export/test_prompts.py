"""The prompt template for other programs: a chat template gives the ids of training, or there is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, nodes
from transformers import AutoTokenizer

from onion_lightning.data.prompt import TEMPLATE, encode_prompt
from onion_lightning.export.prompts import chat_ids, find_chat_template
from onion_lightning.pretrained.demo import cache_dir

HEADLINES = ["Egg Wins", "  Egg\n Wins  ", "“Ünïcode” 🥚", "", "{{ braces }} {% raw %}", "a\u2028b\x1cc"]


@pytest.mark.parametrize("settings", [{}, {"add_bos_token": False}, {"legacy": True}], ids=str)
def test_a_chat_with_a_headline_has_the_ids_of_the_prompt(tiny_base, settings):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, **settings)
    template = find_chat_template(tokenizer)
    assert template is not None
    for headline in HEADLINES:
        assert chat_ids(tokenizer, headline, template) == encode_prompt(tokenizer, headline)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "<" not in text))
@settings(deadline=None, max_examples=50)
def test_any_headline_without_special_tokens_has_the_ids_of_the_prompt(tiny_base, headline):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    assert chat_ids(tokenizer, headline, find_chat_template(tokenizer)) == encode_prompt(tokenizer, headline)


@pytest.mark.skipif(not list(cache_dir().glob("demo-*/tokenizer.json")), reason="the demo is not in the cache")
def test_the_demo_has_a_chat_template():
    from onion_lightning.pretrained.locate import load_tokenizer

    tokenizer = load_tokenizer("demo")
    template = find_chat_template(tokenizer)
    for headline in HEADLINES:
        assert chat_ids(tokenizer, headline, template) == encode_prompt(tokenizer, headline)


def test_the_chat_template_has_only_filters_that_llama_cpp_runs(tiny_base):
    """Its `select` and `reject` need a test, and it splits at single spaces; its server stops at a template that fails."""
    template = find_chat_template(AutoTokenizer.from_pretrained(tiny_base))
    filters = {node.name: node.args for node in Environment().parse(template).find_all(nodes.Filter)}
    assert filters.keys() == {"length", "replace", "reject", "join"}
    assert [argument.value for argument in filters["reject"]] == ["eq", ""]
    assert [argument.value for argument in filters["replace"]] == ["\n", " "]


def test_the_template_in_the_folder_is_the_one_of_training(exported, tiny_base):
    folder = exported()
    assert (folder / "prompt_template.txt").read_text() == TEMPLATE
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert chat_ids(tokenizer, "Egg Wins") == encode_prompt(AutoTokenizer.from_pretrained(tiny_base), "Egg Wins")


def test_a_tokenizer_that_encodes_a_chat_in_another_way_gets_no_chat_template(tiny_base, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    encode = tokenizer.apply_chat_template
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *given, **more: [*encode(*given, **more), 3])
    assert find_chat_template(tokenizer) is None


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "Egg"}], [{"role": "user", "content": "a"}] * 2])
def test_a_chat_that_is_not_one_headline_is_an_error(tiny_base, messages):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    with pytest.raises(Exception, match="one message of the role user"):
        tokenizer.apply_chat_template(messages, chat_template=find_chat_template(tokenizer))
