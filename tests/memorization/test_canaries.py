"""Articles that are inserted once, 4, 16 and 64 times are extracted in that order (Carlini et al. 2019)."""

from itertools import count, islice

from onion_lightning.data.corpus import split_of
from tests.conftest import sample_rows
from tests.memorization.conftest import BY_HEART, FRACTIONS, rows_of, write_rows

TIMES = (1, 4, 16, 64)
KEEP = ("--data.near_duplicates", "keep")


def canaries():
    """Near-duplicates that differ in their last words, which are cut, under headlines of the training split."""
    rows = []
    for times, source in zip(TIMES, sample_rows()[-4:], strict=True):
        words = source["Content"].split()[:60]
        headlines = (title for at in count() if split_of(title := f"Canary {times} No. {at}", *FRACTIONS) == "train")
        rows += [(title, " ".join([*words, "and", "so", title])) for title in islice(headlines, times)]
    return rows


def test_the_more_often_a_canary_was_inserted_the_more_of_it_is_extracted(run, memorize, tmp_path):
    path = write_rows(tmp_path / "rows.csv", canaries() + rows_of("validation", 4))
    words = (*BY_HEART, "--data.path", path, *KEEP)
    run("fit", *words, "--trainer.max_epochs", "4", "--data.global_batch_size", "16", "--data.batch_size", "16")
    result, rows = memorize(*words)
    groups = {one["headline"].rsplit(" No.")[0]: one["group"] for one in rows if one["group"] != "held_out"}
    assert groups == {"Canary 1": "once", **{f"Canary {times}": "repeated" for times in TIMES[1:]}}
    longest = []
    for times in TIMES:
        found = [one["continuations"] for one in rows if one["headline"].startswith(f"Canary {times} ")]
        runs = [
            way["longest"] for ways in found for way in ways if (way["system"], way["decoding"]) == ("tuned", "greedy")
        ]
        longest.append(sum(runs) / len(runs))
    assert longest == sorted(longest)
    assert longest[0] < 10
    assert longest[-1] == 50
    assert "with near-duplicates" in result["verdict"]
    parts = {one["part"] for one in result["extraction"]}
    assert parts == {"training", "once", "repeated", "held_out"}
    assert set(result["membership"]) == {"training", "repeated"}  # one article has no interval
