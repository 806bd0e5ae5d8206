"""`export --gguf`: the user's converter writes model.gguf, or nothing is written and a sentence says why.

Small scripts stand for llama.cpp's programs here; `benchmarks/llama_cpp.py` runs the real ones.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CONVERTS = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
if "--help" not in sys.argv:
    from tests.verification.test_gguf import write_gguf
    assert sys.argv[2::2] == ["--outtype", "--outfile"]
    merged, kind, file = Path(sys.argv[1]), sys.argv[3], Path(sys.argv[5])
    write_gguf(Path({base!r}), merged.parent, kind.upper(), {change})
    (merged.parent / "model.gguf").rename(file)
"""
COPIES = """
import sys
if "--help" not in sys.argv:
    open(sys.argv[5], "w").write(" ".join(["converted", *sys.argv[2:4]]))
"""
QUANTIZES = """#!{python}
import sys
if sys.argv[1] == "--help":
    print("usage: ...\\n  15  or  Q4_K_M  :  4.58G")
    sys.exit(1)
open(sys.argv[2], "w").write(open(sys.argv[1]).read() + f", quantized to {{sys.argv[3]}}")
"""


@pytest.fixture
def llama_cpp(tmp_path):
    """Returns a function that writes the converter, and on request llama-quantize, and returns their folder."""

    def write(converter: str, quantize: str | None = None) -> Path:
        folder = tmp_path / "llama.cpp"
        binaries = folder / "build" / "bin"
        binaries.mkdir(parents=True, exist_ok=True)
        (folder / "convert_hf_to_gguf.py").write_text(converter)
        if quantize is not None:
            (binaries / "llama-quantize").write_text(quantize)
            (binaries / "llama-quantize").chmod(0o755)
        return folder

    return write


def test_the_converted_file_is_part_of_the_export_and_verified(exported, llama_cpp, tiny_base):
    folder = llama_cpp(CONVERTS.format(root=str(ROOT), base=str(tiny_base), change=0.0))
    words = ("--merge", "true", "--gguf", "f32", "--llama_cpp", str(folder))
    out = exported(*words, "--verify", "true", "--model.load_in", "none", "--model.max_new_tokens", "4")
    forms = json.loads((out / "verify.json").read_text())["forms"]
    assert [form["form"] for form in forms] == ["adapters", "merged", "model.gguf"]
    assert forms[-1]["largest"] < 1e-4
    assert "# llama.cpp wrote model.gguf: f32" in (out / "Modelfile").read_text().splitlines()
    card = (out / "README.md").read_text()
    assert "`model.gguf` contains the merged weights for llama.cpp and Ollama, as f32." in card
    assert "convert_hf_to_gguf.py" not in card
    assert "llama-server --model model.gguf" in card
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


def test_a_converter_that_changes_the_weights_is_found_out(flags, checkpoint, llama_cpp, tiny_base, tmp_path, capsys):
    from onion_lightning.cli.main import main

    folder = llama_cpp(CONVERTS.format(root=str(ROOT), base=str(tiny_base), change=0.5))
    words = ("--ckpt_path", str(checkpoint), "--output", str(tmp_path / "e"), "--merge", "true", "--verify", "true")
    more = ("--gguf", "f32", "--llama_cpp", str(folder), "--model.max_new_tokens", "4")
    assert main(flags("export", *words, *more)) == 1
    assert "the form 'model.gguf' differs" in capsys.readouterr().err.splitlines()[-1]


def test_smaller_types_are_written_by_llama_quantize(exported, llama_cpp):
    folder = llama_cpp(COPIES, QUANTIZES.format(python=sys.executable))
    out = exported("--merge", "true", "--gguf", "q4_k_m", "--llama_cpp", str(folder))
    assert (out / "model.gguf").read_text() == "converted --outtype auto, quantized to q4_k_m"
    assert not list(out.glob("*.auto"))


def test_a_file_that_the_next_export_would_lack_is_kept_and_uploaded(
    run, refused, exported, llama_cpp, checkpoint, capsys
):
    folder = llama_cpp(COPIES)
    words = ("--merge", "true", "--gguf", "Q8_0", "--llama_cpp", str(folder))
    out = exported(*words)
    assert (out / "model.gguf").read_text() == "converted --outtype q8_0"
    again = ("export", "--ckpt_path", str(checkpoint), "--output", str(out))
    assert "a model.gguf, which this one would lack; give another folder" in refused(*again, "--merge", "true")
    capsys.readouterr()
    run(*again, *words, "--push", "egg/egg")
    assert "bytes  model.gguf" in capsys.readouterr().err
    exported("--merge", "true")
    assert not (out / "model.gguf").exists()


FAILS = """
import sys
if "--help" not in sys.argv:
    print("INFO: Loading model")
    print("Writing:  12%|#", end="\\r", file=sys.stderr)
    raise ValueError("Model EggForCausalLM is not supported")
"""
STOPS = "import os, sys\n'--help' in sys.argv or os.kill(os.getpid(), 9)\n"
UNLISTED = QUANTIZES.format(python=sys.executable)


@pytest.mark.parametrize(
    ("kind", "converter", "quantize", "says"),
    [
        (
            "f32",
            FAILS,
            None,
            "(ValueError: Model EggForCausalLM is not supported); update llama.cpp, or export without",
        ),
        ("f32", STOPS, None, "failed with status -9 (no message)"),
        (
            "f32",
            "import no_such_egg.shell",
            None,
            "needs the Python package no_such_egg; install it in this environment",
        ),
        ("f32", "", None, "its converter wrote no file; update llama.cpp."),
        ("q4_k_m", COPIES, None, "--gguf q4_k_m: llama.cpp's converter writes f32, f16, bf16, q8_0; give one of them"),
        ("q9_egg", COPIES, UNLISTED, "--gguf q9_egg: is not a type of "),
        ("q4_k_m", COPIES, "not a program", "llama-quantize cannot be started (Exec format error); build llama.cpp"),
    ],
)
def test_a_program_that_fails_is_quoted_and_leaves_nothing(
    refused, checkpoint, llama_cpp, kind, converter, quantize, says
):
    folder, out = llama_cpp(converter, quantize), checkpoint.parent / "out"
    words = ("--ckpt_path", str(checkpoint), "--output", str(out), "--merge", "true")
    assert says in refused("export", *words, "--gguf", kind, "--llama_cpp", str(folder))
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gguf", "q8_0", "--llama_cpp", "."), "--gguf q8_0: is converted from merged weights; set --merge true."),
        (("--llama_cpp", "."), "--llama_cpp .: has no effect without --gguf; give both."),
        (("--gguf", "q8_0", "--merge", "true"), "--gguf q8_0: llama.cpp's converter writes it; give the folder"),
        (
            ("--gguf", "q8_0", "--merge", "true", "--llama_cpp", "nowhere"),
            "--llama_cpp nowhere: contains no convert_hf_to_gguf.py; give the folder of llama.cpp's source code",
        ),
    ],
)
def test_flags_that_do_not_match_are_refused(refused, checkpoint, tmp_path, words, says):
    out = ("--output", str(tmp_path / "out"))
    assert says in refused("export", "--ckpt_path", str(checkpoint), *out, *words)
    assert not (tmp_path / "out").exists()
