"""What the documents say about the code exists: links, files, functions, tests, and the commands of the README."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

import onion_lightning
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
from tests.conftest import ROOT

PACKAGE = ROOT / "onion_lightning"
# Not those that commands write into a clone, nor those of an environment in it.
FOLDERS = [ROOT / name for name in ("configs", "onion_lightning", "tests")]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("checkpoints/*.md"), *(md for top in FOLDERS for md in top.rglob("*.md"))]
)


def names_in(file: Path) -> set[str]:
    """Functions, methods and classes that a file defines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def section(document: str, title: str) -> str:
    text = (ROOT / document).read_text(encoding="utf-8")
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def headings(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document: `## What it can do` is `#what-it-can-do`."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_anchor_of_a_relative_link_leads_to_a_heading(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert anchor in headings(document.parent / target if target else document), f"{target}#{anchor}"


def test_anchors_are_those_of_github(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("# A `fit`, in 8 bit\n\n```bash\n# a comment\n```\n\n## snake_case & one-way\n\nx # y\n")
    assert headings(document) == {"a-fit-in-8-bit", "snake_case--one-way"}


@pytest.mark.parametrize(
    "walk", ["A row from the file to the loss", "A headline from the command line to `articles.jsonl`"]
)
def test_every_stop_of_a_walk_exists(walk):
    stops = re.findall(r"^\d+\. `([\w/.]+)::(\w+)`", section("CONTRIBUTING.md", walk), re.MULTILINE)
    assert 5 < len(stops) <= 10
    for file, name in stops:
        assert name in names_in(PACKAGE / file), f"{file}::{name}"


def test_every_guarantee_names_tests_that_exist():
    rows = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?(…?)", section("tests/README.md", "What is guaranteed"))
    assert len(rows) > 20
    for file, name, shortened in rows:
        found = names_in(ROOT / "tests" / file)
        assert not name or any(test.startswith(name) if shortened else test == name for test in found), (file, name)


def test_the_readme_is_short_and_its_layout_lists_every_package():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert packages == set(re.findall(r"^  (\w+)/", section("README.md", "Layout"), re.MULTILINE))


def commands() -> list[list[str]]:
    """The commands in the README's table, as words."""
    rows = re.findall(r"^\|.*?\| (.*) \|$", section("README.md", "What it can do"), re.MULTILINE)
    found = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    return [shlex.split(code) for code in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_in_the_readme_parses(words):
    class Parse(OnionCLI):
        def parse_arguments(self, parser, args):
            parser.parse_args(args)
            raise KeyboardInterrupt

    with StopSignals() as signals, pytest.raises(KeyboardInterrupt):
        Parse([words[0], "--config", str(ROOT / "configs/cpu.yaml"), *words[1:]], signals)


def test_the_notebook_in_the_readme_imports_public_names():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    statements = ast.parse(code).body
    (imported,) = [node for node in statements if isinstance(node, ast.ImportFrom)]
    assert imported.module == "onion_lightning"
    assert {alias.name for alias in imported.names} <= set(onion_lightning.__all__)
    assert len(statements) <= 5


def test_the_notebook_in_the_configs_is_valid_and_has_no_outputs():
    notebook = nbformat.read(ROOT / "configs" / "onion.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_each_package_says_in_two_lines_what_it_is_for_and_what_it_may_import():
    for file in PACKAGE.rglob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        assert len(docstring.splitlines()) == 2, file
        assert "import" in docstring.splitlines()[1], file


def test_no_package_has_more_than_ten_modules():
    for folder in {file.parent for file in PACKAGE.rglob("__init__.py")}:
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= 10, folder


def test_badges_citation_and_changelog_are_those_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    badges = dict(re.findall(r"badge/(\w+)-(.+?)-\w+\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert badges["license"] == project["license"]
    assert badges["python"] == project["requires-python"].removeprefix(">=") + "%2B"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == onion_lightning.__version__
    assert citation["license"] == project["license"]
    assert f"\n## {onion_lightning.__version__} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text(
        "utf-8"
    )
