"""Converts the merged weights of an export to a GGUF file, with programs of the user's own copy of llama.cpp."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from onion_lightning.errors import OnionError, reason
from onion_lightning.heartbeat import Heartbeat, log_line

__all__ = ["Conversion", "convert", "find_conversion"]

CONVERTER, QUANTIZE = "convert_hf_to_gguf.py", "llama-quantize"
TYPES = ("f32", "f16", "bf16", "q8_0")  # that the converter writes; llama-quantize writes the others
BUILT = ("build/bin", "bin", "")  # where its binaries are
LINES = 3  # of a failed program's output


class Conversion(NamedTuple):
    """How a GGUF file is written.

    Attributes:
        kind: type of its weights, such as q8_0.
        converter: llama.cpp's script.
        quantize: its binary for smaller types; None if the script writes the type itself.
    """

    kind: str
    converter: Path
    quantize: Path | None


def find_conversion(gguf: str | None, llama_cpp: str | None, merge: bool) -> Conversion | None:
    """Return how the file is written; None if none is asked for. Called before the work starts, and starts the programs.

    Args:
        gguf: value of `--gguf`.
        llama_cpp: value of `--llama_cpp`.
        merge: value of `--merge`.

    Raises:
        OnionError: the flags do not match, or a program is missing or does not start.
    """
    if gguf is None:
        if llama_cpp is not None:
            raise OnionError(f"--llama_cpp {llama_cpp}: has no effect without --gguf; give both.")
        return None
    if not merge:
        raise OnionError(f"--gguf {gguf}: is converted from merged weights; set --merge true.")
    if llama_cpp is None:
        raise OnionError(
            f"--gguf {gguf}: llama.cpp's converter writes it; give the folder of llama.cpp's source code to --llama_cpp."
        )
    kind, folder = gguf.lower(), Path(llama_cpp).expanduser()
    if not (folder / CONVERTER).is_file():
        raise OnionError(
            f"--llama_cpp {llama_cpp}: contains no {CONVERTER}; give the folder of llama.cpp's source code"
            " (git clone https://github.com/ggml-org/llama.cpp)."
        )
    quantize = None if kind in TYPES else find_quantize(kind, folder)
    run([sys.executable, folder / CONVERTER, "--help"], "starting llama.cpp's converter")
    return Conversion(kind, folder / CONVERTER, quantize)


def find_quantize(kind: str, folder: Path) -> Path:
    """Return the binary that writes a type of weights that the converter does not."""
    names = ", ".join(TYPES)
    found = next((folder / place / QUANTIZE for place in BUILT if (folder / place / QUANTIZE).is_file()), None)
    if found is None:
        raise OnionError(
            f"--gguf {kind}: llama.cpp's converter writes {names}; give one of them, or build {QUANTIZE} in {folder} for"
            " smaller types (cmake -B build && cmake --build build --target llama-quantize)."
        )
    listed = run([found, "--help"], f"starting {QUANTIZE}", (0, 1))  # its usage is an error
    if not re.search(rf"\b{re.escape(kind)}\b", listed, re.IGNORECASE):
        raise OnionError(f"--gguf {kind}: is not a type of {found}; give one that it lists, or {names}.")
    return found


def convert(conversion: Conversion, folder: Path, file: Path) -> None:
    """Write a GGUF file.

    Args:
        conversion: how.
        folder: merged weights and their tokenizer.
        file: to write.

    Raises:
        OnionError: a program fails.
    """
    log_line(f"converting merged weights to GGUF ({conversion.kind})")
    kind, written = conversion.kind, file
    if conversion.quantize is not None:
        kind, written = "auto", file.with_suffix(".auto")  # 16 bit, or 32 if the base model has them
    command: list[str | Path] = [sys.executable, conversion.converter, folder, "--outtype", kind, "--outfile", written]
    run(command, "converting merged weights to GGUF")
    if conversion.quantize is not None:
        run([conversion.quantize, written, file, conversion.kind], f"quantizing to {conversion.kind}")
        written.unlink()
    if not file.is_file():
        raise OnionError(f"--llama_cpp {conversion.converter.parent}: its converter wrote no file; update llama.cpp.")


def run(words: Sequence[str | Path], task: str, accepted: Sequence[int] = (0,)) -> str:
    """Run a program of llama.cpp, which prints bars of its own, and return what it printed.

    Raises:
        OnionError: it cannot be started, or fails.
    """
    program = next(Path(word) for word in words if str(word) != sys.executable)
    try:
        with Heartbeat(lambda: f"{task}: still at work"):
            done = subprocess.run(
                [*map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
    except OSError as error:
        raise OnionError(
            f"--llama_cpp: {program} cannot be started ({reason(error)}); build llama.cpp on this machine."
        ) from error
    if done.returncode in accepted:
        return done.stdout
    if missing := re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", done.stdout, re.MULTILINE):
        raise OnionError(
            f"--llama_cpp: {program} needs the Python package {missing[1]}; install it in this environment (pip install"
            f" {missing[1].partition('.')[0]})."
        )
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
    raised = any(line.startswith("Traceback") for line in lines)  # then the last line is the exception
    said = " / ".join(lines[-1:] if raised else lines[-LINES:]) or "no message"
    raise OnionError(
        f"--llama_cpp: {program} failed with status {done.returncode} ({said}); update llama.cpp, or export without --gguf."
    )
