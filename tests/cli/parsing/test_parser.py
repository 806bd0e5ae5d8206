"""The configs and `--help`."""

import pytest
import yaml

from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
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
    for name in ("fit", "validate", "test", "predict", "evaluate", "attend"):
        assert f"\n    {name} " in done.stdout
