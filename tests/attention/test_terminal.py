"""What the terminal prints about a result."""

import dataclasses
from pathlib import Path

import pytest

from onion_lightning.attention.terminal import format_share, show_attention


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.43649999, "43.6%"), (0.00042, "0.04%"), (7.654321e-07, "0.00008%"), (0.0, "0.0%")],
)
def test_a_small_share_keeps_a_significant_digit(value, expected):
    assert format_share(value) == expected


def test_the_notes_explain_how_the_shares_were_measured(result, capsys):
    show_attention(result, Path("folder"))
    printed = capsys.readouterr().err
    assert f"controls: {len(result.controls)} spans of the key's length" in printed
    assert "first token (excluded from key and controls): " in printed
    assert "checks (base): row sums within " in printed


def test_too_few_controls_are_reported_and_give_no_z_score(result, capsys):
    show_attention(dataclasses.replace(result, controls=result.controls[:2]), Path("folder"))
    printed = capsys.readouterr().err
    assert "controls: fewer than 3 spans of the key's length, so there is no z-score" in printed
    [row] = [line for line in printed.splitlines() if "rollout" in line]
    assert len(row.split()) == 2  # the key share alone
