"""Opens tables as streams of bytes or text: files, compressed files, and files in a zip archive."""

import gzip
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

from onion_lightning.errors import OnionError, reason, shorten

__all__ = [
    "ARCHIVE",
    "COMPRESSIONS",
    "Table",
    "check_whole",
    "local_file",
    "members",
    "open_bytes",
    "open_text",
    "suffix_of",
]

ARCHIVE = ".zip"
STREAMS = (".gz", ".zst")
COMPRESSIONS = (*STREAMS, ARCHIVE)
POINTER = b"version https://git-lfs.github.com/spec/"  # the first bytes of what Git LFS stores in place of a file


class Table(NamedTuple):
    """A file, a file in a zip archive, the rows that an SQL query selects from a file, or a sheet of a workbook.

    Attributes:
        file: path of the file.
        inner: the path inside the archive, the query, or the title of the sheet; "" for a whole file.
    """

    file: str
    inner: str = ""

    @property
    def name(self) -> str:
        return f"{self.file}::{self.inner}" if self.inner else self.file

    @property
    def archived(self) -> bool:
        return Path(self.file).suffix.lower() == ARCHIVE

    @property
    def suffix(self) -> str:
        """The suffix of the format, without that of the compression."""
        return suffix_of(self.inner if self.archived else self.file)


def suffix_of(name: str) -> str:
    """Return the suffix of a file's format: ".csv" for `news.csv` and `news.csv.gz`."""
    path = PurePosixPath(name)
    return PurePosixPath(path.stem if path.suffix.lower() in STREAMS else path).suffix.lower()


def members(file: Path) -> list[str]:
    """Return the paths of the files in a zip archive, without hidden files and those that macOS adds.

    Raises:
        OnionError: the file is not a zip archive.
    """
    with decompressing(str(file)), zipfile.ZipFile(file) as archive:
        return sorted(name for name in archive.namelist() if not is_hidden(PurePosixPath(name)) and name[-1:] != "/")


def is_hidden(path: PurePath) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)


def check_whole(file: Path) -> None:
    """Refuse a file that Git LFS has not downloaded.

    Raises:
        OnionError: the file is a pointer of Git LFS.
    """
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise OnionError(f"--data.path {file}: is a Git LFS pointer rather than the file; run git lfs pull.")


@contextmanager
def open_bytes(table: Table) -> Iterator[BinaryIO]:
    """Open a table as a stream of decompressed bytes. Files in an archive are never written to disk under their own path.

    Raises:
        OnionError: the data cannot be decompressed, also while it is read inside the `with` block.
    """
    with decompressing(table.name), ExitStack() as stack:
        if table.archived:
            archive = stack.enter_context(zipfile.ZipFile(table.file))
            stream = cast(BinaryIO, stack.enter_context(archive.open(table.inner)))
        else:
            stream = stack.enter_context(open(table.file, "rb"))
        yield stack.enter_context(decompress(stream, table.inner if table.archived else table.file))


def decompress(stream: BinaryIO, name: str) -> BinaryIO:
    match Path(name).suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
        case ".zst":
            return cast(BinaryIO, io.BufferedReader(ZstandardStream(stream)))
    return stream


class ZstandardStream(io.RawIOBase):
    """Decompresses a file of Zstandard frames. zstandard's own stream does not report that a file was cut off.

    Args:
        stream: the compressed bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        import zstandard

        self.stream = stream
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # of `zstd --long=31`
        self.frame: Any = None
        self.packed, self.unpacked = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.unpacked:
            packed = self.packed or self.stream.read(1 << 16)
            if not packed:
                if self.frame is not None:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            self.frame = self.frame or self.decompressor.decompressobj()
            self.unpacked, self.packed = memoryview(self.frame.decompress(packed)), b""
            if self.frame.eof:
                self.packed, self.frame = self.frame.unused_data, None
        size = min(len(buffer), len(self.unpacked))
        buffer[:size], self.unpacked = self.unpacked[:size], self.unpacked[size:]
        return size


@contextmanager
def decompressing(name: str) -> Iterator[None]:
    """Turn errors of decompression into one sentence."""
    import zstandard

    try:
        yield
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        zstandard.ZstdError,
        NotImplementedError,
    ) as error:
        raise OnionError(
            f"--data.path {name}: could not be decompressed ({shorten(error)}); download it again."
        ) from error
    except RuntimeError as error:  # zipfile's error for an encrypted archive
        if "password" not in str(error):
            raise
        raise OnionError(f"--data.path {name}: is encrypted; decompress it first.") from error


@contextmanager
def open_text(table: Table, encoding: str, newline: str) -> Iterator[TextIO]:
    """Open a table as text. Bytes that cannot be decoded are replaced with U+FFFD (`detect_encoding` has counted them)."""
    with open_bytes(table) as stream, io.TextIOWrapper(stream, encoding, errors="replace", newline=newline) as text:
        yield text


@contextmanager
def local_file(table: Table) -> Iterator[str]:
    """Return the path of a table's bytes, decompressed to a temporary file if need be, for libraries that need to seek.

    Raises:
        OnionError: the temporary file cannot be written.
    """
    if not table.archived and Path(table.file).suffix.lower() not in STREAMS:
        yield table.file
        return
    with tempfile.NamedTemporaryFile(suffix=table.suffix) as copy:
        try:
            with open_bytes(table) as stream:
                shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            raise OnionError(
                f"--data.path {table.name}: could not be decompressed to {copy.name} ({reason(error)}); decompress it"
                " yourself, or set TMPDIR to a folder with enough space."
            ) from error
        yield copy.name
