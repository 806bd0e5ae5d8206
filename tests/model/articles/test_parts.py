"""Part files: what is read of one that was cut off, and the order in which several are merged."""

import pytest

from onion_lightning.model.articles.parts import encode_batch, locate_articles, read_articles, read_batches, whole_bytes
from onion_lightning.model.articles.record import ArticleBatch, ArticleRecord

TEXT = "An egg\nwins\u2028“again” \U0001f373."


def stored(number, *rows, text=TEXT):
    """A batch of headlines, with two candidates for each."""
    articles = [ArticleRecord(row, candidate, f"Egg {row}", text, 5, "eos") for row in rows for candidate in (0, 1)]
    return encode_batch(ArticleBatch(number, articles), "0123")


def merged(*parts):
    return list(read_articles(parts, locate_articles(parts)))


def test_articles_are_merged_in_the_order_of_headlines_and_candidates(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(stored(2, 4, 0) + stored(0, 3))
    other.write_bytes(stored(1, 5, 1, 2))
    found = merged(one, other)
    assert [(record.index, record.candidate) for record in found] == [(i, c) for i in range(6) for c in (0, 1)]
    assert all(record.headline == f"Egg {record.index}" and record.article == TEXT for record in found)


def test_a_batch_in_two_part_files_is_kept_once(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(stored(0, 1) + stored(1, 0))
    other.write_bytes(stored(1, 0, text="other") + stored(2, 2) + stored(2, 2))
    found = merged(one, other)
    assert [record.index for record in found] == [0, 0, 1, 1, 2, 2]
    assert {record.article for record in found} == {TEXT}


def test_a_part_file_that_is_cut_off_anywhere_is_read_up_to_its_last_whole_batch(tmp_path):
    part, whole, last = tmp_path / "part", stored(0, 1) + stored(3, 0, 2), stored(4, 3, 4)
    for cut in range(len(last)):
        part.write_bytes(whole + last[:cut])
        assert [batch.number for batch in read_batches(part)] == [0, 3]
        assert whole_bytes(part) == len(whole)
    part.write_bytes(whole + last)
    assert whole_bytes(part) == len(whole + last)


@pytest.mark.parametrize("damage", [lambda last: bytes(len(last)), lambda last: last[:200] + bytes(60) + last[260:]])
def test_a_batch_with_zeros_after_a_power_failure_is_not_read(tmp_path, damage):
    part, whole = tmp_path / "part", stored(0, 1)
    part.write_bytes(whole + damage(stored(1, 2, 3)))
    assert whole_bytes(part) == len(whole)


def test_no_part_files_contain_no_article(tmp_path):
    (tmp_path / "empty").touch()
    assert merged(tmp_path / "empty") == merged() == []
    assert whole_bytes(tmp_path / "missing") == 0
