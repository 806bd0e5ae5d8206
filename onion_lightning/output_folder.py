"""Files that a command writes: errors name the flag; in an output folder, it replaces only what it has written."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from onion_lightning.errors import OnionError, reason
from onion_lightning.surrogates import replace_surrogates

__all__ = ["check_folder", "replacing", "write_folder", "writing", "writing_run"]

BEGINNING = 4096  # bytes of a file, in which its mark is


@contextlib.contextmanager
def writing(flag: str, place: Path, remedy: str, file: str = "") -> Iterator[None]:
    """Turn an error of the file system inside the block into one sentence.

    Args:
        flag: the flag that names the place, such as `--articles.path`.
        place: its value.
        remedy: what to do.
        file: the file in that place, if it is a folder.

    Raises:
        OnionError: the disk is full, the place is read-only, ...
    """
    try:
        yield
    except OSError as error:
        name = f"{file} " if file else ""
        raise OnionError(f"{flag} {place}: {name}cannot be written ({reason(error)}); {remedy}.") from error


def writing_run(path: Path) -> contextlib.AbstractContextManager[None]:
    """Do the same for a file in the run's folder."""
    remedy = "free disk space or make it writable, then resume with --ckpt_path last"
    return writing("--checkpoint.dirpath", path.parent, remedy, path.name)


def check_folder(
    output: str, names: Iterable[str], overwrite: bool, folders: Collection[str] = (), mark: str | None = None
) -> Path:
    """Check that files can be written to a folder. Called before the work starts; does not create the folder.

    Args:
        output: the value of `--output`.
        names: names of the files to write.
        overwrite: whether to replace files of an earlier run.
        folders: names of folders to write there.
        mark: near the beginning of each file that the command writes; files with it are replaced in any case.

    Raises:
        OnionError: the folder contains an earlier result, or cannot be created or written to.
    """
    try:
        folder = Path(output).expanduser()
        if folder.exists() and not folder.is_dir():
            raise OnionError(f"--output {output}: is a file; give a folder.")
        found = [name for name in (*names, *folders) if (folder / name).exists()]
        own = [] if mark is None else [name for name in found if has_mark(folder / name, mark)]
        nearest = next(place for place in (folder, *folder.resolve().parents) if place.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise OnionError(f"--output {output}: {nearest} is not writable; give another folder.")
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user, or a symlink loop
        raise unwritable(output, error) from error
    if (others := [name for name in found if name not in own]) and not overwrite:
        problem = f"contains an earlier {others[0]}" if mark is None else f"its {others[0]} is not marked as “{mark}”"
        raise OnionError(f"--output {output}: {problem}; give another folder, or set --overwrite true.")
    if wrong := [name for name in found if (folder / name).is_dir() != (name in folders)]:
        kind = "file" if wrong[0] in folders else "folder"
        raise OnionError(f"--output {output}: its {wrong[0]} is a {kind}; give another folder.")
    return folder


def has_mark(file: Path, mark: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return mark.encode() in stream.read(BEGINNING)


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, as `replacing` does.

    Raises:
        OnionError: the folder cannot be written to.
    """
    with replacing(folder, files) as part:
        for name, content in files.items():
            (part / name).write_bytes(as_bytes(content))


@contextlib.contextmanager
def replacing(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield a temporary folder. When the block ends, its content replaces the result of an earlier run.

    If the block fails or the program is interrupted, the earlier result is unchanged.

    Args:
        folder: the output folder; created if it does not exist.
        names: names of the files and folders of a result. Those that the block does not write are removed.

    Raises:
        OnionError: the folder cannot be written to.
    """
    # inside the folder, which may be a file system of its own
    part, earlier = folder / f".{os.getpid()}.part", folder / f".{os.getpid()}.earlier"
    existed = folder.exists()
    try:
        with writing("--output", folder, "give another folder"):
            part.mkdir(parents=True)
            yield part
            earlier.mkdir()
            moves = [(folder / name, earlier / name) for name in names if (folder / name).exists()]
            move_all([*moves, *((written, folder / written.name) for written in part.iterdir())])
    finally:
        for temporary in (part, earlier):
            shutil.rmtree(temporary, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename files one after another. If one cannot be, or a signal arrives, all get their old names again."""
    try:
        for old, new in moves:
            old.rename(new)
    except BaseException:
        for old, new in reversed(moves):
            if new.exists() and not old.exists():
                new.rename(old)
        raise


def as_bytes(content: str | bytes) -> bytes:
    return replace_surrogates(content).encode() if isinstance(content, str) else content


def unwritable(output: str, error: Exception) -> OnionError:
    return OnionError(f"--output {output}: cannot be written ({reason(error)}); give another folder.")
