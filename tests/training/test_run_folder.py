"""An earlier run's files."""

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
    assert str(aside[0]) in capsys.readouterr().err.replace("\n", "")
    assert list(curve(tmp_path / "run")) == [0]
