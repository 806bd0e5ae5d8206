"""A run that resumes with another global batch size restarts its epoch with the new rows."""

import pytest
import torch

from onion_lightning.cli.main import main
from tests.conftest import curve

SETTINGS = ("--model.load_in", "none", "--samples.count", "0", "--checkpoint.every_n_train_steps", "1")
STILL = ("--model.learning_rate", "1e-12")  # the losses then depend on the rows and on dropout only


@pytest.fixture
def resumed(flags, run, tmp_path):
    """Stops a run of 38 rows and 5 steps per epoch during a step, and resumes it with other batches."""

    def command(stop, *words):
        callback = ("--trainer.callbacks+=tests.stopper.StopAt", f"--trainer.callbacks.step={stop - 1}")
        assert main(flags("fit", *SETTINGS, *STILL, *callback)) == 130
        with pytest.warns(UserWarning, match="that epoch restarts with the new rows"):
            run("fit", *SETTINGS, *STILL, *words, "--ckpt_path", "last")
        return tmp_path / "run"

    return command


@pytest.mark.parametrize(
    ("stop", "size", "micro", "per_epoch"),
    [
        (2, "16", "4", 3),
        (3, "4", "2", 10),
        pytest.param(4, "64", "2", 1, marks=pytest.mark.fault),
        (7, "16", "4", 3),
        pytest.param(8, "6", "4", 7, marks=pytest.mark.fault),
        pytest.param(9, "3", "1", 13, marks=pytest.mark.fault),
        pytest.param(10, "64", "4", 1, marks=pytest.mark.fault),
    ],
)
def test_its_epoch_restarts_with_the_rows_and_the_schedule_of_a_run_with_those_batches(
    resumed, run, tmp_path, stop, size, micro, per_epoch
):
    other = ("--data.global_batch_size", size, "--data.batch_size", micro)
    run("fit", *SETTINGS, *STILL, *other, "--checkpoint.dirpath", str(tmp_path / "whole"))
    folder, epoch = resumed(stop, *other), (stop - 1) // 5
    end = stop + (2 - epoch) * per_epoch
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == end
    assert saved["onion_lightning"]["position"] == {"epoch": 1, "step": per_epoch, "skipped_steps": 0}
    for name in ("train/loss", "learning_rate"):
        found, whole = curve(folder, name), curve(tmp_path / "whole", name)
        assert sorted(found) == list(range(end))
        expected = [whole[step] for step in range(epoch * per_epoch, 2 * per_epoch)]
        assert [found[step] for step in range(stop, end)] == pytest.approx(expected, rel=1e-5, abs=1e-18), name


def test_a_number_of_steps_that_was_given_is_kept(resumed):
    folder = resumed(7, "--data.global_batch_size", "16", "--trainer.max_steps", "9")
    assert sorted(curve(folder)) == list(range(9))


def test_it_resumes_again(resumed, run, tmp_path):
    other = ("--data.global_batch_size", "16", "--trainer.max_epochs", "3")
    folder = resumed(7, *other, "--trainer.max_steps", "8")
    run("fit", *SETTINGS, *STILL, *other, "--ckpt_path", "last")
    assert sorted(curve(folder)) == list(range(13))
