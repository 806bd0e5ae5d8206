"""The public API, imported lazily; and the wheel, which works in an empty directory, without a clone."""

import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import onion_lightning
from tests.conftest import ROOT, command_line, ranks, records


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_the_package_imports_neither_torch_nor_its_own_packages():
    code = (
        "import sys, onion_lightning; print(*[n for n in sys.modules if n.startswith(('torch', 'onion_lightning.'))])"
    )
    assert python(code).strip() == ""


def test_help_of_every_command_imports_none_of_the_libraries_that_take_long():
    code = """if True:
        import contextlib, io, sys
        from onion_lightning.cli.main import main

        for command in ("fit", "predict", "evaluate", "memorize", "attend", "export", "plan", "preview", "serve", "verify"):
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                main([command, "--help"])
        print(*{"bitsandbytes", "datasets", "gradio", "peft", "wandb"} & set(sys.modules))
    """
    assert python(code).strip() == ""


@pytest.mark.parametrize(
    "name", ["Decoding", "EffectSettings", "OnionDataModule", "OnionModule", "attend", "write_articles"]
)
def test_public_names_are_imported_when_they_are_used(name):
    assert name in onion_lightning.__all__
    assert name in dir(onion_lightning)
    assert getattr(onion_lightning, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Onion'"):
        _ = onion_lightning.Onion


def test_the_version_is_printed_without_importing_the_command_line(shell):
    done = shell(["--version"], PYTHONPROFILEIMPORTTIME="1")
    assert done.stdout == f"onion-lightning {onion_lightning.__version__}\n"
    assert not {"torch", "lightning", "onion_lightning.cli"} & {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines()
    }


def build_wheel(root: Path, folder: Path) -> Path:
    return Path(next(WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def files_below(folder: Path, name: str) -> set[str]:
    """Return the files in a folder as paths below a name, without what Python caches."""
    files = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    return {f"{name}/{file.as_posix()}" for file in files if "__pycache__" not in file.parts}


def test_the_wheel_contains_the_package_and_the_configs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in found if name.endswith("/METADATA")]
    own = files_below(ROOT / "onion_lightning", "onion_lightning")
    configs = files_below(ROOT / "configs", "onion_lightning/configs")
    assert {name for name in found if ".dist-info/" not in name} == own | configs
    assert {"onion_lightning/py.typed", "onion_lightning/data/sample/onion_sample.csv"} <= own
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in found)
    assert f"\nVersion: {onion_lightning.__version__}\n" in metadata
    assert "\n# onion_lightning\n" in metadata


def test_a_wheel_that_is_built_from_the_sdist_is_the_same(wheel, tmp_path):
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path / "sdist"), versions=["standard"])
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build_wheel(tmp_path / Path(sdist).name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert again.read_bytes() == wheel.read_bytes()


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """Return a folder with the wheel installed."""
    folder = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return folder


@pytest.fixture
def installed(site, tmp_path):
    """Return a function that runs a line of the shell in an empty directory, with the installed wheel and without a clone."""
    empty = tmp_path / "empty"
    empty.mkdir()
    own = {"PYTHONPATH": str(site), "PATH": f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | own

    def run(line: str, **more: str) -> str:
        done = subprocess.run(line, shell=True, cwd=empty, env=environment | more, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_the_wheel_trains_in_an_empty_directory_and_the_commands_that_it_prints_can_be_pasted(
    installed, tiny_base, corpus_file, tmp_path
):
    tiny = command_line("fit", tiny_base, corpus_file, Path("."))
    line = shlex.join(["onion-lightning", "fit", "--config", "cpu", *tiny[1:], *ranks(2), "--trainer.max_epochs", "1"])
    printed = installed(line)
    (pasted,) = [words.strip() for words in printed.splitlines() if "onion-lightning predict" in words]
    assert pasted.startswith("onion-lightning predict --config cpu --trainer.accelerator cpu")
    installed(f"{pasted} --model.max_new_tokens 4 --trainer.devices 1")
    assert len(records(tmp_path / "empty" / "articles.jsonl")) == 1
    saved = yaml.safe_load((tmp_path / "empty" / "run" / "config.yaml").read_text())
    assert saved["samples"]["count"] == 1  # as in cpu.yaml
    assert "config" not in saved


@pytest.mark.parametrize(
    ("prefix", "variables", "begins"),
    [
        ("", {}, "onion-lightning fit"),
        ("", {"UV": "/usr/bin/uv", "VIRTUAL_ENV": ""}, "uvx onion-lightning fit"),
        ("PATH=/usr/bin:/bin {site}/bin/", {}, "{site}/bin/onion-lightning fit"),
    ],
)
def test_a_printed_command_names_the_program_as_it_can_be_started_again(
    installed, site, tmp_path, prefix, variables, begins
):
    installed(f"{prefix}onion-lightning 2> line.txt || true".replace("{site}", str(site)), **variables)
    said = (tmp_path / "empty" / "line.txt").read_text()
    assert f"for example {begins} --config cpu;".replace("{site}", str(site)) in said
