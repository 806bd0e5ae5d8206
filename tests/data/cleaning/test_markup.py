"""HTML and Markdown as plain text."""

import pytest

from onion_lightning.data.cleaning.markup import may_have_markdown, remove_markdown, remove_tags


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>An egg\nwon.</p><p>A dog lost.</p>", "An egg won.\n\nA dog lost."),
        ("An egg<br>won.<br />A dog lost.", "An egg\nwon.\nA dog lost."),
        ("<ul><li>Egg</li><li>Dog</li></ul>", "Egg\n\nDog"),
        ("<div><h2>Egg</h2><p>A <a href='x'>dog</a> lost.</p></div>", "Egg\n\nA dog lost."),
        ("An <i>egg</i> won.\n\nA dog lost.", "An egg won.\n\nA dog lost."),
        ("<p>Egg</p><script>alert('x')</script><style>p {}</style>", "Egg"),
        ("<figure><img src=x><figcaption>An egg, by a dog.</figcaption></figure><p>Egg</p>", "Egg"),
        ("<!-- a comment --><b>Egg</b>", "Egg"),
        ('<P CLASS="x">Egg &notit AT&T &amp; Co</P>', "Egg &notit AT&T &amp; Co"),
        ("<p>3 < 4 and <John> I <3 you</p>", "3 < 4 and <John> I <3 you"),
    ],
)
def test_tags_become_paragraphs(html, text):
    assert remove_tags(html) == text


@pytest.mark.parametrize("text", ["I <3 you", "a < b > c", "<John> said", "<pres> x", "<-- egg", "<s>egg</s>"])
def test_what_merely_looks_like_a_tag_is_none(text):
    assert remove_tags(text) == text


MARKDOWN = [
    ("An [egg](https://example.com) won", "An egg won"),
    ('An [egg](https://example.com "An egg") won', "An egg won"),
    ("An [egg](/wiki/Egg_(food)) won", "An egg won"),
    ("An [egg](../eggs/won.html) won", "An egg won"),
    ("An [egg][1] won\n\n[1]: https://example.com 'An egg'", "An egg won\n\n"),
    ("An egg won\n\n[Egg]: https://example.com (An egg)", "An egg won\n\n"),
    ("![An egg](https://example.com/egg.png)An egg won", "An egg won"),
    ("![An egg](images/egg.png)\n\nAn egg won", "\n\nAn egg won"),
    ("[![An egg](/egg.png)](https://example.com)An egg won", "An egg won"),
    ("**An *egg*** ~~lost~~ _won_ ***again***", "An egg lost won again"),
    ("**TOLEDO, OH**—An egg", "TOLEDO, OH—An egg"),
    ("*“Egg,”* he said of **The Bugle**’s (*late*) dog", "“Egg,” he said of The Bugle’s (late) dog"),
    ("**An egg\nwon** again", "An egg\nwon again"),
    ("今天**鸡蛋**赢了", "今天鸡蛋赢了"),
    ("# An Egg Wins\n\n## The Count ##\nA dog", "An Egg Wins\n\nThe Count\nA dog"),
    ("# 12 Eggs Win", "12 Eggs Win"),
    ("# eggs", "eggs"),
    ("An Egg Wins\n===========\nA dog", "An Egg Wins\nA dog"),
    ("A dog:\n\n> An egg\n> won.\n\nA cat", "A dog:\n\nAn egg\nwon.\n\nA cat"),
    ("> An egg won.\n\nA dog\n\n## Cats", "An egg won.\n\nA dog\n\nCats"),
    ("An `egg_` won", "An egg_ won"),
    ("```python\negg = 1 # *\n```\nAn egg", "egg = 1 # *\nAn egg"),
    ("**An egg** cost 2 \\* 3, \\[sic\\]\\\nA dog", "An egg cost 2 * 3, [sic]\nA dog"),
    ("1. Egg\n\n    **Dog**", "1. Egg\n\nDog"),
    ("- **Egg**\n- 1. *Dog*", "- Egg\n- 1. Dog"),
]
PLAIN = [
    "He [the egg](sic) won",
    "[egg] (https://example.com)",
    "f[x](y)",
    "[Bob]: Hello.\n\n[Alice]: Hello.",
    "[Bo](they/them)",
    "sh*t and f*ck",
    "2 * 3 * 4 and 2**3**4",
    "An egg* won.\n*Not really.",
    "***** of 5 *****",
    "*_* -_- and -_- ^_^",
    "¯\\_(ツ)_/¯ and ¯_(ツ)_/¯",
    "snake_case_egg and @egg_man_ and #egg_",
    "Name: ____ Age:____ Egg:____ ",
    "* * *\n\n***\n---",
    "https://example.com/_egg_/*dog*",
    "*.csv and *.txt",
    "#egg #dog",
    "# 1 in the world",
    "# of eggs: 5",
    "### Article: an egg",
    "#",
    "1. FC KÖLN—An egg",
    "12. MAY, TOLEDO—An egg",
    "1) Egg\n2) Dog\n    indented",
    "* Egg\n* Dog\n+ Cat",
    "> Did the egg win?\nYes.",
    "> Did the egg win?\n\nYes.",
    "Bob wrote:\n\n> An egg\n\nNo.",
    "I see.\n\n>> An egg\n> A dog\n\nNo.",
    "On May 3, 2024, Bob:\n\n> An egg\n\nNo.",
    "Yes,\n> an egg\n\nNo.",
    "3 > 2\n> 1",
    "``It is,'' he said. ``It was,'' she said.",
    "`It is' and `it was'",
    "Hawai`i and O`ahu",
    "```\nAn egg",
    "~~~\nAn egg\n~~~",
    "An Egg\n------\nA dog",
    "An egg won it all.\n=====\nA dog",
    "An egg won\\\nA dog",
    "a = b\n= c",
    "2 ~~ 3 ~~ 4",
    "*nix and sh*t",
    "the ****ing egg, you b**",
    "An egg won.\nA dog lost.\n=======================",
]


@pytest.mark.parametrize(("markdown", "text"), MARKDOWN)
def test_markdown_becomes_text(markdown, text):
    assert may_have_markdown(markdown)
    assert remove_markdown(markdown) == text


@pytest.mark.parametrize("text", PLAIN)
def test_what_merely_looks_like_markdown_is_kept(text):
    assert remove_markdown(text) == text


@pytest.mark.parametrize("text", PLAIN)
def test_what_merely_looks_like_markdown_is_kept_beside_markdown(text):
    if "\\" not in text and not text.startswith((">", "```")):  # which mean something in a text of Markdown
        assert remove_markdown(f"{text}\n\n**An egg** won.") == f"{text}\n\nAn egg won."


def test_lines_without_markdown_keep_every_space():
    assert remove_markdown("  An  egg \t\n    won. \n\n\n**A** dog\n\n") == "  An  egg \t\n    won. \n\n\nA dog\n\n"


def test_line_ends_that_are_not_to_be_cleaned_are_kept():
    assert remove_markdown("An egg\rwon.\r\n\r\n**A** dog\r\n\r\nA cat") == "An egg\rwon.\r\n\r\nA dog\r\n\r\nA cat"


def test_text_without_marks_never_meets_the_parser():
    assert not may_have_markdown("TOLEDO, OH—“An egg,” said 1 man (aged 33); it's 5-4 > 0 = [sic].\n\n- Egg & #dog")
