"""Converts HTML and Markdown to plain text."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import emphasis as library_emphasis
from markdown_it.token import Token
from selectolax.lexbor import LexborHTMLParser

__all__ = ["may_have_markdown", "may_have_tag", "remove_markdown", "remove_tags"]

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

ADDRESS = r"https?://|mailto:|www\.|[/#]"
LINK = re.compile(rf"{ADDRESS}|(?:ftp|tel|data):|\?\w|\.{{1,2}}/|.*(?:/|\.[a-z]{{2,5}})(?:[?#]|$)", re.IGNORECASE)
TITLE = r""""[^"\n]*"|'[^'\n]*'|\([^()\n]*\)"""
DEFINITION = re.compile(rf"^ {{0,3}}\[([^\[\]\n]+)\]: *<?((?:{ADDRESS})\S*?)>?(?: +(?:{TITLE}))? *$", re.MULTILINE)
CODE = re.compile(r"(?<![\w`])(`+)(?![\s`'])[^`]+(?<![\s`(])\1(?![\w`'])")  # not ``quotes'' of TeX and wire services
OPENING = set("([{\"'“‘«„—–…¿¡|*_~")  # before emphasis, if neither a space nor the start of the text is
STARTS = re.compile(r"""[*_~`!\[\\("'“‘«„¿¡$€£#@&.…]{0,9}[^\W_]""")  # at the start of emphasis
LONGEST_RUN = 3  # asterisks or underscores; more are a line to be filled in, or a word that is not to be read
# Before a quotation in an e-mail
ATTRIBUTION = re.compile(r"(?:[\d@].*|\b(?:wrote|writes|schrieb|écrit|escribió) ?):$")
QUOTE = re.compile(r" {0,3}> ?")
NO_TITLE = re.compile(r"of |[\d.,]+ [a-z]|(?:Headline|Article):")  # after "# "
HASHES = re.compile(r"(?:#{1,6} +)*")
MARKUP = {"em_open", "strong_open", "s_open", "link_open", "image", "code_inline"}


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


def may_have_markdown(text: str) -> bool:
    """Return whether a text has a sign that all Markdown has. Written out, this takes half the time of a loop."""
    inside = "*" in text or "_" in text or "`" in text or "~~" in text
    link = "]" in text and ("](" in text or "][" in text or "]: " in text)
    return inside or link or text[:1] in ("#", ">") or "\n#" in text or "\n>" in text or "\n=" in text


class Edit(NamedTuple):
    """Lines of a text and what is to replace them.

    Attributes:
        first: the first line.
        end: the line after the last one.
        lines: the new lines, at most as many.
        certain: whether such lines occur in nothing but Markdown.
    """

    first: int
    end: int
    lines: list[str]
    certain: bool = True


class Parser(MarkdownIt):
    """CommonMark with strikethrough, without what means the same in plain text: lists and indentation.

    HTML and entities are left to other changes.
    """

    def __init__(self) -> None:
        super().__init__("commonmark")
        self.disable(["normalize", "text_join", "code", "list", "html_block"])
        self.disable(["html_inline", "entity", "autolink", "reference"])
        self.enable("strikethrough")
        self.inline.ruler.at("emphasis", emphasis)
        self.inline.ruler.at("backticks", code)

    def validateLink(self, url: str) -> bool:
        """Whether what follows a label is an address: "[the egg](sic)" is no link."""
        return LINK.match(url) is not None


def emphasis(state: StateInline, silent: bool) -> bool:
    """Parse `*` and `_` as the library does, but never inside words ("sh*t and f*ck") or in faces ("-_-")."""
    start = state.pos
    if not library_emphasis.tokenize(state, silent):
        return False
    before, after = state.src[max(start - 1, 0) : start], state.src[state.pos : state.pos + 1]
    length = state.pos - start
    outside = not before or before.isspace() or before in OPENING or is_uncased(before)
    opens = length <= LONGEST_RUN and outside and STARTS.match(state.src, state.pos) is not None
    closes = length <= LONGEST_RUN and before.strip() != "" and (not after.isalnum() or is_uncased(after))
    for delimiter in state.delimiters[-length:]:
        delimiter.open, delimiter.close = opens, closes
    return True


def is_uncased(character: str) -> bool:
    """Whether a character is a letter of a script without capitals, some of which have no spaces between words."""
    return character.isalpha() and character.lower() == character.upper()


def code(state: StateInline, silent: bool) -> bool:
    """Parse `code`, and leave other backticks, such as ``quotes'', unchanged."""
    match = CODE.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        state.push("code_inline", "code", 0).content = match[0].strip("`")
    state.pos = match.end()
    return True


PARSER = Parser()


def remove_markdown(text: str) -> str:
    """Return the text without Markdown: headings, emphasis, quotations, links and code become their text, images nothing.

    Lines without markup are kept exactly as they are, as is a text in which nothing is certain to be Markdown: "¯\\_(ツ)_/¯",
    and replies that begin with "> ".
    """
    references = {normalizeReference(match[1]): {"href": match[2], "title": ""} for match in DEFINITION.finditer(text)}
    body = DEFINITION.sub("", text)
    lines: list[str | None] = [*body.split("\n")]
    edits = [*find_edits(PARSER.parse(body, {"references": references}), body.split("\n"))]
    if not references and not any(edit.certain for edit in edits):
        return text
    for first, end, new, _ in edits:
        lines[first:end] = [*new, *[None] * (end - first - len(new))]
    return "\n".join(line for line in lines if line is not None)


def find_edits(tokens: list[Token], lines: list[str]) -> Iterator[Edit]:
    """Yield what is to be done with each block. Quotations lose their marks; what is in them is left to the next pass."""
    done = 0
    for at, token in enumerate(tokens):
        if token.map is None or token.map[0] < done:
            continue
        first, end = token.map
        if token.type == "blockquote_open":
            done = end
            if not is_reply(lines, first, end):
                yield Edit(first, end, [QUOTE.sub("", line, count=1) for line in lines[first:end]], certain=first > 0)
        elif token.type == "heading_open" and token.markup != "-":
            done = end
            if is_title(tokens[at + 1].content, lines[end - 1].strip() if token.markup == "=" else ""):
                yield Edit(first, end, [render(tokens[at + 1])])
        elif (
            token.type == "fence" and "`" in token.markup and token.markup == lines[end - 1].strip() and end > first + 1
        ):
            yield Edit(first, end, lines[first + 1 : end - 1])
        elif token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            certain = not MARKUP.isdisjoint(kinds)
            if certain or "text_special" in kinds or "\\\n" in token.content:
                yield Edit(first, end, render(token).split("\n"), certain)


def is_title(content: str, underline: str) -> bool:
    """Whether this is a heading, and not "# of eggs", "# 1 in the world", the prompt's own, or a paragraph above a line."""
    if underline:
        return "\n" not in content and len(content) <= 2 * len(underline)
    return any(map(str.isalpha, content)) and NO_TITLE.match(content) is None


def is_reply(lines: list[str], first: int, end: int) -> bool:
    """Whether lines with ">" are what an e-mail replies to: they adjoin other lines, are nested, or name their author."""
    marks = [line.replace(" ", "")[:2] for line in lines[first:end] if line.strip()]
    before = next((lines[at].strip() for at in range(first - 1, -1, -1) if lines[at].strip()), "")
    adjoins = (first > 0 and lines[first - 1].strip() != "") or any(mark[0] != ">" for mark in marks)
    return adjoins or ">>" in marks or ATTRIBUTION.search(before) is not None


def render(inline: Token) -> str:
    """Return the text of a paragraph or a heading."""
    breaks = {"softbreak": "\n", "hardbreak": "\n", "image": ""}
    text = "".join(breaks.get(child.type, child.content) for child in inline.children or ())
    return HASHES.sub("", text, count=1)
