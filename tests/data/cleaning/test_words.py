"""Words of any script."""

import pytest

from onion_lightning.data.cleaning.words import fold_words, has_words, split_words, starts_with_words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("An egg won.", 3),
        ("It’s an e-mail — really", 4),
        ("鸡蛋今天赢了。", 6),
        ("卵が勝った", 5),
        ("ไข่ชนะวันนี้", 3),  # 12 characters
        ("Яйцо победило сегодня", 3),
        ("달걀이 이겼다", 2),
        ("अंडा जीत गया", 3),
        ("—…!", 0),
        ("", 0),
    ],
)
def test_words_are_counted_in_every_script(text, count):
    assert has_words(text, count)
    assert not has_words(text, count + 1)
    assert not has_words(text, 10**10)


def test_words_are_compared_without_case_and_punctuation():
    assert fold_words("“Egg’s” WIN, again") == ["egg", "s", "win", "again"]
    assert starts_with_words("An EGG\nwon, they say", ["an", "egg", "won"]) == len("An EGG\nwon")
    assert starts_with_words("An egg", ["an", "egg", "won"]) is None
    assert starts_with_words("Another egg", ["an", "egg"]) is None
    assert starts_with_words("An eggTOLEDO", ["an", "egg"]) == len("An egg")


def test_characters_are_words_where_there_are_no_spaces():
    assert split_words("An Egg, won") == ["an", "egg,", "won"]
    assert split_words("鸡蛋 WON") == ["鸡", "蛋", "won"]
