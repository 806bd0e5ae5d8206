"""Errors in one sentence."""

import errno
import os

import pytest

from onion_lightning.errors import OnionError, check_range, reason, sentence


def test_a_librarys_error_is_put_on_one_line():
    assert sentence(ValueError("bad  value\n  of a flag\n")) == "bad value of a flag"


def test_the_reason_is_the_operating_systems_or_the_errors_own_without_a_period():
    assert reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.ckpt")) == os.strerror(errno.ENOSPC)
    assert reason(OSError("the file is cut off.")) == "the file is cut off"
    assert reason(ValueError("not a number")) == "not a number"


def test_a_value_out_of_range_is_named_with_its_flag_and_the_range():
    check_range("--model.lora_rank", 1, True, "at least 1")
    with pytest.raises(OnionError) as error:
        check_range("--model.lora_rank", 0, False, "at least 1")
    assert str(error.value) == "--model.lora_rank 0: must be at least 1."
