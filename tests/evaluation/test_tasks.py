"""Which headlines and examples an evaluation uses."""

import pytest

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError
from onion_lightning.evaluation import tasks
from onion_lightning.evaluation.tasks import EvaluationData, fit_shots


def test_as_many_whole_examples_as_fit_are_joined_with_one_bos():
    examples = [[1, 5, 6], [1, 7, 8], [1, 9, 9]]
    assert fit_shots(examples, 5, bos=1) == ([1, 5, 6, 7, 8], 2)
    assert fit_shots(examples, 4, bos=1) == ([1, 5, 6], 1)
    assert fit_shots(examples, 2, bos=1) == ([], 0)
    assert fit_shots([[1, 5, 6, 7], [1, 8], [1, 9]], 3, bos=1) == ([1, 8, 9], 2)


def test_few_shot_examples_come_from_the_training_split_only(evaluated, monkeypatch):
    modules, chosen = [], []
    setup, choose = OnionDataModule.setup, tasks.choose_examples
    monkeypatch.setattr(OnionDataModule, "setup", lambda self, stage: setup(self, stage) or modules.append(self))
    monkeypatch.setattr(tasks, "choose_examples", lambda *args: chosen.append(choose(*args)) or chosen[-1])
    evaluated("--shots", "3")
    data = modules[-1]
    assert len(chosen[0]) == 3
    assert all(ids in list(data.encoded["train"]["input_ids"]) for ids in chosen[0])
    held_out = [encode_prompt(data.tokenizer, h) for s in ("validation", "test") for h in data.texts[s]["headline"]]
    assert not any(ids[: len(prompt)] == prompt for ids in chosen[0] for prompt in held_out)


def test_one_test_headline_is_too_few():
    data = EvaluationData(OnionDataModule(test_fraction=0.01), 3, None, 8, 300)
    with pytest.raises(OnionError, match=r"needs at least 2 test headlines, and the split has 1; train with") as error:
        data.check_size(1)
    assert str(error.value).startswith("--data.test_fraction 0.01: evaluate")
    data.check_size(2)
