"""The ranking of heads, the excluded first token, and how a notebook displays a result."""

import dataclasses

import numpy as np
import torch

from onion_lightning.attention.phrase_attention import attend
from tests.attention.conftest import QUERY, TEXT


def test_a_key_that_begins_with_the_first_token_is_measured_without_it(base, tokenizer):
    result = attend(base, tokenizer, TEXT, QUERY, "The town")
    with_first_token = dataclasses.replace(result, key=result.key._replace(first=0))
    np.testing.assert_array_equal(with_first_token.measure(np.ones((1, 99))).key_share, [result.key.stop - 1])


def test_heads_are_ranked_by_z_and_those_with_a_negligible_key_share_come_last(result):
    attention = torch.rand(1, 4, result.query.stop, generator=torch.Generator().manual_seed(0)) * 1e-4
    attention[0, 0] /= 1000  # the first head gets the highest z-score, although its key share is negligible
    for head, share in enumerate((0.005, 0.3, 0.1, 0.2)):
        attention[0, head, result.key.first : result.key.stop] = share / (result.key.stop - result.key.first)
    changed = dataclasses.replace(result, maps={"base": result.maps["base"]._replace(mean=attention)})
    z = changed.heads["base"].z_score[0]
    assert z.argmax() == 0
    assert [head for _, head in changed.ranking] == [*sorted((1, 2, 3), key=lambda head: -z[head]), 0]


def test_a_notebook_displays_a_result_as_a_sandboxed_page(result):
    shown = result._repr_html_()
    assert shown.startswith("<iframe title=")
    assert shown.count("<") == 2  # the page is the text of an attribute
    assert 'srcdoc="&lt;!doctype html&gt;' in shown
