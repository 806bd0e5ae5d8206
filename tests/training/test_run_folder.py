"""An earlier run's files."""

from types import SimpleNamespace

import torch

from onion_lightning.training.run_folder import RunFolder
from tests.conftest import curve


def test_a_second_fit_moves_the_first_ones_files_aside_and_reports_it(run, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "2")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    capsys.readouterr()
    run("fit", "--trainer.max_steps", "1")
    aside = list((tmp_path / "run").glob("previous-*"))
    assert len(aside) == 1
    assert (aside[0] / "last.ckpt").read_bytes() == before
    assert (aside[0] / "config.yaml").exists()
    assert f"--ckpt_path {aside[0] / 'last.ckpt'} resumes that run" in capsys.readouterr().err
    assert list(curve(tmp_path / "run")) == [0]


def test_the_files_that_were_moved_aside_can_be_resumed_from(run, tmp_path):
    run("fit", "--trainer.max_steps", "2")
    run("fit", "--trainer.max_steps", "1")
    (moved,) = (tmp_path / "run").glob("previous-*/last.ckpt")
    run("fit", "--trainer.max_steps", "3", "--ckpt_path", str(moved))
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_a_folder_with_square_brackets_is_printed_as_it_is(tmp_path, capsys):
    folder = tmp_path / "[egg]"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"")
    trainer = SimpleNamespace(is_global_zero=True)
    callback = RunFolder(folder, resumes=False)
    callback.setup(trainer, None, "fit")
    callback.teardown(trainer, None, "fit")
    assert f"{folder}/previous-" in capsys.readouterr().err
