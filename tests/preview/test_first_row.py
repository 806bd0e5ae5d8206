"""The row that `fit` prints when it starts."""

import re


def test_fit_prints_the_first_row_once_in_at_most_twelve_lines(run, flags, tmp_path, capsys):
    run("preview", "--rows", "1", "--output", str(tmp_path / "preview"))
    expected = printed_rows(capsys.readouterr().err)
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0", "--trainer.limit_val_batches", "0")
    found = printed_rows(capsys.readouterr().err)
    assert found == expected
    assert len(found) == 1
    assert len(found[0].splitlines()) <= 12
    assert "[BOS]" in found[0]


def printed_rows(text: str) -> list[str]:
    return re.findall(r"^  step 1: .*? in the loss\n.*?\n\n", text, re.MULTILINE | re.DOTALL)
