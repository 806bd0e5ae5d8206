"""The ranking of heads, the excluded first token, and how a notebook displays a result."""

import dataclasses

import numpy as np
import torch

from onion_lightning.attention.effects.experiment import EffectSettings
from onion_lightning.attention.phrase_attention import attend
from tests.attention.conftest import KEY, QUERY, TEXT


def test_a_key_that_begins_with_the_first_token_is_measured_without_it(base, tokenizer):
    result = attend(base, tokenizer, TEXT, QUERY, "The town")
    with_first_token = dataclasses.replace(result, key=result.key._replace(first=0))
    np.testing.assert_array_equal(with_first_token.measure(np.ones((1, 99))).key_share, [result.key.stop - 1])


def test_heads_are_ranked_by_share_and_those_with_a_low_z_come_last(result):
    attention = torch.rand(1, 4, result.query.stop, generator=torch.Generator().manual_seed(0)) * 1e-3
    attention[0, 3] *= 100  # its controls vary so much that its share, the largest, is no surprise
    for head, share in enumerate((0.01, 0.3, 0.1, 0.35)):
        attention[0, head, result.key.first : result.key.stop] = share / (result.key.stop - result.key.first)
    changed = dataclasses.replace(result, maps={"base": result.maps["base"]._replace(mean=attention)})
    z = changed.heads["base"].z_score[0]
    assert (z[:3] > 3).all()
    assert z[3] < 3
    assert [head for _, head in changed.ranking] == [1, 2, 0, 3]


def test_heads_without_a_z_are_ranked_by_share(result):
    few = dataclasses.replace(result, controls=result.controls[:2])
    shares = [few.heads["base"].key_share[place] for place in few.ranking]
    assert shares == sorted(shares, reverse=True)


def test_heads_are_ranked_by_effect_if_it_was_measured(base, tokenizer):
    result = attend(base, tokenizer, TEXT, QUERY, KEY, effect=EffectSettings())
    sizes = [abs(result.effects["base"].heads[place]) for place in result.ranking]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_notebook_displays_a_result_as_a_sandboxed_page(result):
    shown = result._repr_html_()
    assert shown.startswith("<iframe title=")
    assert shown.count("<") == 2  # the page is the text of an attribute
    assert 'srcdoc="&lt;!doctype html&gt;' in shown
