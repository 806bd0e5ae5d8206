"""Errors in one sentence."""

import errno
import os
from typing import Literal

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from onion_lightning.errors import OnionError, check_range, reason, sentence


@pytest.fixture
def rejected():
    """Returns a function that gives jsonargparse's error about a flag."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--size", type=int | None)
    parser.add_argument("--mode", type=Literal["cut", "drop"])

    def error(*words):
        with pytest.raises(ArgumentError) as caught:
            parser.parse_args(list(words))
        return caught.value

    return error


def test_an_error_of_the_parser_becomes_one_line_without_the_list_of_types(rejected):
    error = rejected("--size", "many")
    assert "\n  Subtypes: " in str(error)
    assert sentence(error) == 'Parser key "size": Does not validate against any of the Union subtypes'


def test_an_error_of_the_parser_keeps_what_was_expected(rejected):
    assert sentence(rejected("--mode", "c")) == (
        "Parser key \"mode\": Expected a typing.Literal['cut', 'drop']. Got value: c"
    )


@pytest.mark.parametrize("start", ["For details of accepted options", "Subtypes", "Given value type"])
def test_usage_text_is_omitted_only_where_it_begins_a_line(start):
    assert sentence(ValueError(f"bad  value\n  {start}: many\nlines")) == "bad value"
    assert sentence(ValueError(f"{start}: many\nlines")) == f"{start}: many lines"


def test_the_reason_is_the_operating_systems_or_the_errors_own_without_a_period():
    assert reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.ckpt")) == os.strerror(errno.ENOSPC)
    assert reason(OSError("the file is cut off.")) == "the file is cut off"
    assert reason(ValueError("not a number")) == "not a number"


def test_a_value_out_of_range_is_named_with_its_flag_and_the_range():
    check_range("--model.lora_rank", 1, True, "at least 1")
    with pytest.raises(OnionError) as error:
        check_range("--model.lora_rank", 0, False, "at least 1")
    assert str(error.value) == "--model.lora_rank 0: must be at least 1."
