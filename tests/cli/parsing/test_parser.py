"""The configs and `--help`."""

import re

import pytest
import yaml
from torch.distributed.run import get_args_parser

from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.parsing.parser import flag_names
from onion_lightning.cli.signals import StopSignals
from onion_lightning.private_api import option_strings
from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_parses_opens_with_its_launch_line_and_has_a_folder_of_its_own(path, monkeypatch):
    text = path.read_text()
    assert text.startswith(f"# python -m onion_lightning fit --config configs/{path.name}\n")
    assert "Effective batch" in text
    settings = yaml.safe_load(text)
    assert settings["checkpoint"]["dirpath"] == f"checkpoints/{path.stem}"
    assert isinstance(settings["seed_everything"], int)

    class Parse(OnionCLI):
        def before_instantiate_classes(self):
            raise KeyboardInterrupt

    with StopSignals() as signals, pytest.raises(KeyboardInterrupt):
        Parse(["fit", "--config", str(path)], signals)


def test_help_lists_every_command_and_no_library_prints_anything(shell):
    done = shell(["--help"])
    assert done.returncode == 0
    assert done.stderr == ""
    for name in (
        "fit",
        "validate",
        "test",
        "predict",
        "evaluate",
        "memorize",
        "attend",
        "export",
        "plan",
        "preview",
        "serve",
        "verify",
    ):
        assert f"\n    {name} " in done.stdout
    assert re.search(r"attend\s+Measure how strongly one phrase of a text attends", done.stdout)


@pytest.mark.parametrize(
    ("flag", "given", "found"),
    [
        ("--data.headlines", "Man: I Won", ["Man: I Won"]),
        ("--data.headlines", "[sic] Man", ["[sic] Man"]),
        ("--data.headlines", '["A", "B: C"]', ["A", "B: C"]),
        ("--data.headlines+", "1984", ["1984"]),
        ("--data.headlines", "null", None),
    ],
)
def test_the_parser_reads_headlines_as_they_were_typed(parse, flag, given, found):
    assert parse("predict", flag, given).data.headlines == found


@pytest.mark.parametrize("headline", ["Man: I Won", "[sic] Man", "1984"])
def test_a_headline_in_a_yaml_file_is_read_as_it_was_written(parse, tmp_path, headline):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": {"headlines": headline}}))
    assert parse("predict", "--config", str(tmp_path / "c.yaml")).data.headlines == headline


def test_no_flag_abbreviates_one_of_torchruns(unparsed):
    """torchrun looks for abbreviations of its flags in the whole line, also behind the module's name."""
    theirs = [word for word in option_strings(get_args_parser()) if word.startswith("--")]
    assert "--nnodes" in theirs
    for command, parser in unparsed._subcommand_parsers.items():
        for name in flag_names(parser):
            assert [word for word in theirs if word.startswith(f"--{name}") and word != f"--{name}"] == [], command
