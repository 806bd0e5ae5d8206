"""HTML and Markdown as plain text."""

import pytest

from onion_lightning.data.cleaning.markup import remove_markdown_links, remove_tags


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


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("An [egg](https://example.com) won", "An egg won"),
        ('An [egg](https://example.com "An egg") won', "An egg won"),
        ("An [egg](/wiki/Egg_(food)) won", "An egg won"),
        ("![An egg](https://example.com/egg.png)An egg won", "An egg won"),
    ],
)
def test_links_become_their_text(markdown, text):
    assert remove_markdown_links(markdown) == text


@pytest.mark.parametrize("text", ["He [the egg](sic) won", "[egg] (https://example.com)", "f[x](y)"])
def test_what_merely_looks_like_a_link_is_none(text):
    assert remove_markdown_links(text) == text
