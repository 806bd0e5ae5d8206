"""Converts HTML and Markdown links to plain text."""

import re

from selectolax.lexbor import LexborHTMLParser

__all__ = ["may_have_link", "may_have_tag", "remove_markdown_links", "remove_tags"]

BLOCKS = (
    "p div section article main header footer aside nav h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr blockquote pre hr"
    " figure center form fieldset address"
).split()
INLINE = (
    "a abbr b big br button cite code del dfn em font i img input ins kbd label mark q small span strike strong sub sup"
    " td th tbody thead tt u var wbr picture source time"
).split()
UNSEEN = "script style noscript iframe figcaption svg video audio object embed head title meta link template".split()
NAMES = "|".join(sorted((*BLOCKS, *INLINE, *UNSEEN, "html", "body"), key=len, reverse=True))
TAG = re.compile(rf"</?(?:{NAMES})(?:\s[^<>]*|/)?>|<!--(?:(?!<!--).)*?-->", re.IGNORECASE | re.DOTALL)
BLOCK = re.compile(rf"</?(?:{'|'.join(BLOCKS)}|br)(?:\s[^<>]*|/)?>", re.IGNORECASE)
BREAK = "\ue000"  # a line break of HTML, while the line breaks of its source are still spaces
LINK = re.compile(
    r"""(!?)\[([^\[\]]*)\]\((?:https?://|www\.|mailto:|/|\#)(?:[^()\s]|\([^()\s]*\))*(?:\s+"[^"\n]*")?\)"""
)


def may_have_tag(text: str) -> bool:
    return "<" in text


def remove_tags(text: str) -> str:
    """Return the text that a browser would show. Blocks become paragraphs; scripts, captions and the like are removed.

    What merely looks like a tag ("<3", "<John>") is kept, as is "<s>", which is a token of Llama 2. If no block is marked
    up, line breaks are those of the text.
    """
    if TAG.search(text) is None:
        return text
    blocks = BLOCK.search(text) is not None
    tree = LexborHTMLParser(f"<body>{escape_other_signs(text)}</body>")
    body = tree.body
    if body is None:
        return text
    for node in body.css(",".join(UNSEEN)):
        node.decompose()
    if not blocks:
        return re.sub(" {2,}", " ", body.text())
    for node in body.css("br"):
        node.replace_with(BREAK)
    for node in body.css(",".join(BLOCKS)):
        between = BREAK if node.tag in ("li", "tr", "dt", "dd") else BREAK * 2
        node.insert_before(between)
        node.insert_after(between)
    lines = " ".join(body.text().split()).replace(BREAK, "\n").split("\n")
    return re.sub("\n{3,}", "\n\n", "\n".join(map(str.strip, lines))).strip("\n")


def escape_other_signs(text: str) -> str:
    """Escape all but the tags, so that the parser decodes no entities and removes no unknown elements."""
    pieces, end = [], 0
    for match in TAG.finditer(text):
        pieces += [escape(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join(pieces) + escape(text[end:])


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def may_have_link(text: str) -> bool:
    return "](" in text


def remove_markdown_links(text: str) -> str:
    """Replace a link by its text, and remove an image."""
    return LINK.sub(lambda match: "" if match[1] else match[2], text)
