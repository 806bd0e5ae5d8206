"""The public API: small, imported lazily, and adding nothing to the start-up time of `--help`."""

import subprocess
import sys

import pytest

import onion_lightning
from tests.conftest import ROOT


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
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
