"""Converts cells of any type to text, and records to `RawRow`s."""

from typing import Any, TypedDict

from onion_lightning.surrogates import replace_surrogates

__all__ = ["NotTextError", "RawRow", "as_text"]

TEXT_FIELDS = ("rendered", "text", "content")  # of an object in a cell, as in exports of WordPress


class RawRow(TypedDict):
    """A row before cleaning. A missing cell is None.

    Attributes:
        headline: with the instruction around it, if the headlines have one.
        article: its text.
        problem: the reason to drop the row, or empty.
        before: number of characters of the instruction before the headline.
        after: number of characters of the instruction after it.
        misread: the encoding in which the UTF-8 of its table was read (`find_misreading`), or empty.
    """

    headline: str | None
    article: str | None
    problem: str
    before: int
    after: int
    misread: str


class NotTextError(ValueError):
    """A cell is neither text nor a number, nor a list or an object that contains one text."""


def as_text(value: Any) -> str | None:
    """Convert a cell to text, without lone surrogates.

    None and NaN are missing cells, never the texts "None" and "nan". Numbers, booleans and dates become the text that Python
    prints for them; a list of texts is joined with blank lines; an object with exactly one of the fields in `TEXT_FIELDS`
    becomes that field.

    Raises:
        NotTextError: the cell is another list or object, or bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        fields = [name for name in TEXT_FIELDS if name in value]
        if len(fields) != 1 or isinstance(value[fields[0]], dict):
            raise NotTextError
        return as_text(value[fields[0]])
    if isinstance(value, list | tuple):
        return join_texts(value)
    if isinstance(value, bytes):  # a column of Parquet that does not say that it is text
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise NotTextError from error
    return None if value is None or value != value else str(value)


def join_texts(values: list[Any] | tuple[Any, ...]) -> str | None:
    """Join a list of texts with blank lines. None is skipped; an empty list is a missing cell."""
    texts = [value for value in values if value is not None]
    if not all(isinstance(text, str) for text in texts):
        raise NotTextError
    return replace_surrogates("\n\n".join(texts)) if texts else None
