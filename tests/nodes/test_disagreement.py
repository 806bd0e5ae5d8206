"""Machines that were given different flags or files, and an error on one machine only."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.nodes.conftest import sentence

pytestmark = pytest.mark.nodes


def other_rows(words, folder):
    """Give the second machine as many rows, one of them with another article."""
    at = words.index("--data.path") + 1
    file = folder / "corpus.csv"
    lines = Path(words[at]).read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:-1], lines[-1].rstrip().rstrip('"') + ' indeed"\r\n']), encoding="utf-8")
    words[at] = str(file)


def other_base(words, folder, change):
    """Give the second machine a copy of the base model with a change."""
    at = words.index("--model.base_model") + 1
    shutil.copytree(words[at], folder / "base")
    change(folder / "base")
    words[at] = str(folder / "base")


def change_weights(base):
    weights = load_file(base / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"][0, 0] += 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})


def change_tokenizer(base):
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": False}))


FLAGS = {  # the second machine's values, and the first one's
    "--seed_everything": ("2", "1"),
    "--data.max_length": ("180", "200"),
    "--model.lora_rank": ("4", "8"),
    "--model.learning_rate": ("0.02", "0.01"),
}
FILES = {
    "--data.path": other_rows,
    "--model.base_model": lambda words, folder: other_base(words, folder, change_weights),
    "tokenizer": lambda words, folder: other_base(words, folder, change_tokenizer),
}


@pytest.mark.parametrize("what", [*FLAGS, *FILES])
def test_machines_that_disagree_are_refused_before_the_first_step(machines, words, what):
    more = ("--seed_everything", "1", "--trainer.max_steps", "2")
    first, second = [words("fit", *more, machine=machine) for machine in machines.both]
    if what in FLAGS:
        second += [what, FLAGS[what][0]]
    else:
        FILES[what](second, machines.both[1].folder)
    pair = machines.torchrun(first, second)
    assert 0 not in pair.wait(60), pair.text()
    for agent in pair:
        said = sentence(agent.printed())
        for word in (what, "rank 0", "rank 1", *FLAGS.get(what, ())):
            assert word in said
    assert not (machines.both[0].run / "last.ckpt").exists()
    assert not (machines.both[0].run / "metrics.csv").exists()


def test_an_error_on_one_machine_ends_all_with_that_sentence_and_its_host(machines, words):
    first, second = [words("fit", machine=machine) for machine in machines.both]
    second[second.index("--data.path") + 1] = "nowhere.csv"
    pair = machines.torchrun(first, second)
    assert 0 not in pair.wait(60), pair.text()
    for agent in pair:
        assert "nowhere.csv" in sentence(agent.printed())
    if machines.isolated:
        assert "n2" in sentence(pair.first.printed())
