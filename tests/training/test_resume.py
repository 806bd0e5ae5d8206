"""The loops of a checkpoint are set to the position of an optimizer step, whatever Lightning had counted."""

from copy import deepcopy

import pytest
import torch

from onion_lightning.training.resume import begin_next_epoch, rewind_progress


@pytest.fixture
def loops(run, tmp_path):
    """The loops of a run that ended after step 3 of 5, with two micro-batches per step."""
    run("fit", "--trainer.max_steps", "3")
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["loops"]
    assert batches(saved)["current"] == counts(6, 5)  # Lightning counts the last batch after it has been saved
    return saved


def batches(loops):
    return loops["fit_loop"]["epoch_loop.batch_progress"]


def counts(ready, completed):
    return {"ready": ready, "started": ready, "processed": ready, "completed": completed}


def rewound(loops, step, accumulate):
    """Return whether the epoch has ended, and the batch progress; a second call must change neither."""
    changed = deepcopy(loops)
    ended = rewind_progress(changed, step, accumulate)
    again = deepcopy(changed)
    assert rewind_progress(again, step, accumulate) == ended
    assert again == changed
    return ended, batches(changed)


def test_a_position_is_a_number_of_optimizer_steps_for_any_accumulation(loops):
    for accumulate in (1, 2, 4):
        ended, progress = rewound(loops, 3, accumulate)
        assert not ended
        assert progress["current"] == progress["total"] == counts(3 * accumulate, 3 * accumulate - 1)
    assert rewound(loops, 0, 2)[1]["current"] == counts(0, 0)


def test_a_checkpoint_saved_inside_an_accumulation_window_resumes_at_its_last_completed_step(loops):
    for name in ("current", "total"):
        batches(loops)[name] |= {"ready": 10, "started": 10, "processed": 9, "completed": 9}
    batches(loops)["is_last_batch"] = True  # Lightning sets it when it fetches the batch
    ended, progress = rewound(loops, 4, 2)
    assert not ended
    assert not progress["is_last_batch"]
    assert progress["current"] == progress["total"] == counts(8, 8)


def test_the_total_keeps_the_micro_batches_of_earlier_epochs(loops):
    batches(loops)["total"] |= counts(16, 15)
    _, progress = rewound(loops, 3, 1)
    assert progress["current"] == counts(3, 2)
    assert progress["total"] == counts(13, 12)


def test_an_epoch_has_ended_after_its_last_micro_batch_unless_it_restarts(loops):
    batches(loops)["is_last_batch"] = True
    assert rewound(loops, 3, 2)[0]
    ended, progress = rewound(loops, 0, 2)
    assert not ended
    assert not progress["is_last_batch"]


def test_the_next_epoch_begins_once_with_no_micro_batch(loops):
    batches(loops)["is_last_batch"] = True
    begin_next_epoch(loops, 4)
    epochs, progress = loops["fit_loop"]["epoch_progress"], batches(loops)
    assert epochs["current"] == epochs["total"] == {"ready": 5, "started": 4, "processed": 4, "completed": 4}
    assert progress == {"current": counts(0, 0), "total": counts(6, 6), "is_last_batch": False}
    again = deepcopy(loops)
    begin_next_epoch(again, 4)
    rewind_progress(again, 0, 2)
    assert again == loops


def test_a_checkpoint_without_a_position_is_refused(run, refused, tmp_path):
    run("fit", "--trainer.max_steps", "1")
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert checkpoint["onion_lightning"].pop("position") == {"epoch": 0, "step": 1, "skipped_steps": 0}
    torch.save(checkpoint, tmp_path / "adapters.ckpt")
    assert refused("fit", "--ckpt_path", str(tmp_path / "adapters.ckpt")) == (
        "error: --ckpt_path: has adapters but no position in a run, so training cannot resume from it; give a checkpoint"
        " that fit wrote."
    )
