"""Values from anywhere are checked, and errors are shown as text."""

import logging

import gradio as gr
import pytest

from onion_lightning.errors import OnionError
from onion_lightning.serving.page.inputs import read_seed, read_settings, read_text, shown

pytestmark = pytest.mark.filterwarnings("default")  # gradio's own


class Desk:
    """As much of a desk as the settings need."""

    class author:
        class model:
            class decoding:
                repetition_penalty = 1.1


def test_an_error_is_shown_as_text_in_the_words_of_the_page():
    @shown
    def fail():
        raise OnionError('--query "<img src=x>": does not occur')

    with pytest.raises(gr.Error) as error:
        fail()
    assert error.value.message == "The phrase &quot;&lt;img src=x&gt;&quot;: does not occur"


@pytest.mark.parametrize("streams", [False, True])
def test_an_unexpected_error_is_logged_and_its_text_is_not_shown(caplog, streams):
    def fail():
        raise RuntimeError("the password is egg")

    def fail_later():
        yield 1
        raise RuntimeError("the password is egg")

    with pytest.raises(gr.Error, match="Something went wrong on the server; its log has the details") as error:
        list(shown(fail_later)()) if streams else shown(fail)()
    assert "egg" not in str(error.value)
    record = next(record for record in caplog.records if record.name.startswith("onion_lightning.serving"))
    assert record.levelno == logging.ERROR
    assert "the password is egg" in record.exc_text


def test_settings_are_converted_and_checked():
    decoding = read_settings(Desk, 20.0, 1, 0.9, 2.0, 1.5)
    assert (decoding.max_new_tokens, decoding.candidates, decoding.adapter_strength) == (20, 2, 1.5)
    for values in (("x", 1, 1, 1, 1), (None, 1, 1, 1, 1), (float("inf"), 1, 1, 1, 1), ([], 1, 1, 1, 1)):
        with pytest.raises(OnionError, match="The settings must be numbers"):
            read_settings(Desk, *values)
    for values in ((20, float("nan"), 1, 1, 1), (20, 1, 0, 1, 1), (0, 1, 1, 1, 1), (20, 1, 1, 1, -1)):
        with pytest.raises(OnionError, match="must be"):
            read_settings(Desk, *values)


@pytest.mark.parametrize("seed", [None, "x", float("inf"), {}])
def test_a_seed_is_a_number(seed):
    with pytest.raises(OnionError, match="The seed must be a whole number"):
        read_seed(seed)


def test_text_is_text_without_lone_surrogates():
    assert read_text("Egg \ud83d Wins") == "Egg \ufffd Wins"
    for value in (None, 5, ["Egg"], {}):
        with pytest.raises(OnionError, match="must be text"):
            read_text(value)
