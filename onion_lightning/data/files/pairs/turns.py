"""Reads chats: lists of turns with roles, as in `messages` (role, content) and ShareGPT's `conversations` (from, value)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from onion_lightning.data.files.cells import as_text

__all__ = ["is_turn", "last_pair", "last_text", "list_turns"]

ROLES, CONTENTS = ("role", "from"), ("content", "value")
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt", "model")
OTHERS = ("system", "developer", "tool", "function", "function_call", "observation")  # left out


class Turn(NamedTuple):
    """A turn of a chat."""

    role: str
    content: Any


def is_turn(value: Any) -> bool:
    """Return whether a cell is an object with a role that is known."""
    return isinstance(value, dict) and str(one_of(value, ROLES)).lower() in (*USER, *ASSISTANT, *OTHERS)


def one_of(value: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def list_turns(cell: Any) -> list[Turn]:
    """Return the turns in a cell: a list of objects, or, as `datasets` stores it, an object of two lists. Otherwise none."""
    if isinstance(cell, dict):
        roles, contents = one_of(cell, ROLES), one_of(cell, CONTENTS)
        if not isinstance(roles, list) or not isinstance(contents, list):
            return []
        cell = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if not isinstance(cell, list) or not any(map(is_turn, cell)):
        return []
    return [Turn(str(one_of(turn, ROLES)).lower(), one_of(turn, CONTENTS)) for turn in cell if is_turn(turn)]


def texts_of(turns: list[Turn], roles: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield the turns of a role that have a text, the last one first, with their positions."""
    for at in reversed(range(len(turns))):
        if turns[at].role in roles and (text := text_of(turns[at].content)) and text.strip():
            yield at, text


def text_of(content: Any) -> str | None:
    """Return the text of a turn. Of a list of parts, those that are no text, such as images, are left out."""
    if not isinstance(content, list):
        return as_text(content)
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return as_text([text for text in texts if isinstance(text, str)])


def last_pair(cell: Any) -> tuple[str | None, str | None]:
    """Return the last turn of the assistant in a chat, and the last turn of the user before it as the first item."""
    turns = list_turns(cell)
    at, article = next(texts_of(turns, ASSISTANT), (len(turns), None))
    return next((text for _, text in texts_of(turns[:at], USER)), None), article


def last_text(cell: Any, of_user: bool) -> str | None:
    """Return the last turn of the user or of the assistant in a chat; a cell that is no chat is a turn of either."""
    turns = list_turns(cell)
    if not turns:
        return as_text(cell)
    return next((text for _, text in texts_of(turns, USER if of_user else ASSISTANT)), None)
