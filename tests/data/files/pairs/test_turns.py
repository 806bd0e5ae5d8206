"""Chats, and the conventions of other tools for them."""

import pytest
import trl

from onion_lightning.data.files.pairs.turns import last_pair, last_text
from tests.data.conftest import body, load, texts
from tests.data.files.pairs.conftest import EARLIER, ROWS, SYSTEM, assistant, user, write_lines

CHATML = (
    "{% for m in messages %}<|im_start|>"
    "{{ {'human': 'user', 'gpt': 'assistant'}.get(m['role'], m['role']) }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chatty(tokenizer):
    tokenizer.chat_template = CHATML
    yield tokenizer
    tokenizer.chat_template = None


def last_of_chatml(text: str) -> tuple[str, str]:
    """The last two turns of a rendered chat."""
    turns = text.removesuffix("<|im_end|>\n").split("<|im_end|>\n")[-2:]
    headline, article = (turn.split("\n", 1) for turn in turns)
    assert (headline[0], article[0]) == ("<|im_start|>user", "<|im_start|>assistant")
    return headline[1], article[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda h, a: {"messages": [SYSTEM, *EARLIER, user(h), assistant(a)]},
        lambda h, a: {"prompt": [SYSTEM, user(h)], "completion": [assistant(a)]},
        lambda h, a: {"conversations": [{"from": "human", "value": h}, {"from": "gpt", "value": a}]},
    ],
)
def test_the_last_pair_is_what_trl_trains_on_last(tmp_path, chatty, make):
    rendered = {}
    for row in ROWS.items():
        found = trl.apply_chat_template(trl.data_utils.maybe_convert_to_chatml(make(*row)), chatty)
        headline, article = last_of_chatml("".join(found.get(name, "") for name in ("prompt", "completion", "text")))
        rendered[headline] = article
    assert texts(load(write_lines(tmp_path / "a.jsonl", make))) == rendered == ROWS


TOOLS = [{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, {"role": "tool", "content": "42"}]


@pytest.mark.parametrize(
    ("chat", "pair"),
    [
        ([SYSTEM, user("Egg"), assistant("Wins.")], ("Egg", "Wins.")),
        ([*EARLIER, user("Egg"), assistant("Wins."), user("Thanks")], ("Egg", "Wins.")),
        ([user("Egg"), *TOOLS, assistant("Wins.")], ("Egg", "Wins.")),
        ([user("Egg"), assistant("Wins."), *TOOLS], ("Egg", "Wins.")),
        ([user(["Egg", " "]), assistant([{"type": "text", "text": "A."}, "B."])], ("Egg\n\n ", "A.\n\nB.")),
        ([user([{"type": "image", "text": None}, {"type": "text", "text": "Egg"}]), assistant("A.")], ("Egg", "A.")),
        ([{"from": "Human", "value": "Egg", "role": None}, {"from": "GPT", "value": "A."}], ("Egg", "A.")),
        ({"role": ["user", "assistant"], "content": ["Egg", "A."]}, ("Egg", "A.")),
        ([assistant("Wins.")], (None, "Wins.")),
        ([user("Egg"), assistant(" ")], ("Egg", None)),
        ([], (None, None)),
        ("Egg", (None, None)),
        ([{"role": "author", "content": "Egg"}], (None, None)),
        ([{"from": "ann@example.org", "value": "Egg"}], (None, None)),
    ],
)
def test_the_last_pair_of_a_chat(chat, pair):
    assert last_pair(chat) == pair


def test_a_text_is_a_turn_of_either_side():
    assert last_text("Egg", of_user=True) == last_text("Egg", of_user=False) == "Egg"
    assert last_text([user("Egg"), assistant(body(1)), user("Man")], of_user=True) == "Man"
    assert last_text([user("Egg")], of_user=False) is None
