"""Warnings of libraries: most that appear in every run are silenced, and those about wrong gradients are errors."""

import logging
import warnings

import pytest

from onion_lightning.cli.library_warnings import silence_libraries


@pytest.fixture(autouse=True)
def _own_filters():
    level = logging.getLogger("lightning.pytorch").level
    with warnings.catch_warnings():
        warnings.resetwarnings()
        silence_libraries()
        yield
    logging.getLogger("lightning.pytorch").setLevel(level)


@pytest.mark.parametrize(
    "message",
    [
        "bitsandbytes::gemv_4bit: an autograd kernel was not registered to the Autograd key(s)",
        "None of the inputs have requires_grad=True. Gradients will be None",
    ],
)
def test_a_warning_about_missing_gradients_is_an_error(message):
    with pytest.raises(UserWarning):
        warnings.warn(message, UserWarning, stacklevel=1)


def test_other_warnings_are_not_errors():
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)
