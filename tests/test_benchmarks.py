"""The scripts in benchmarks/ are run by hand; here, what they import from this project must exist."""

import ast
from importlib import import_module

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))


def imported_names(source):
    """Return the modules of this project that a script imports names from, and the names."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    own = [node for node in found if (node.module or "").partition(".")[0] in ("onion_lightning", "tests")]
    return [(node.module, alias.name) for node in own for alias in node.names]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_a_script_imports_exists(script):
    names = imported_names(script.read_text(encoding="utf-8"))
    assert [f"{module}.{name}" for module, name in names if not hasattr(import_module(module), name)] == []


def test_each_way_to_import_a_name_is_seen():
    source = "import os\nfrom pathlib import Path\ndef f():\n    from tests.tiny import a, b as c\n"
    assert imported_names(source) == [("tests.tiny", "a"), ("tests.tiny", "b")]
