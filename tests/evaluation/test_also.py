"""Other fine-tuned models beside the first: in `evaluate`, each has what it has as the first one."""

import re

import pytest
import torch

from onion_lightning.cli.parsing.arguments import prepare
from onion_lightning.evaluation.also import place_adapters, read_others
from onion_lightning.model.adapters.switches import other_adapters
from onion_lightning.training.checkpoint_io import read_checkpoint
from tests.conftest import module, ranks, records
from tests.evaluation.conftest import SMALL


def save_other(checkpoint, file, seed=1, **flags):
    """Save a checkpoint with other adapters, as another run would have."""
    content = torch.load(checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(seed)
    content["state_dict"] = {
        name: torch.randn(value.shape, generator=generator) * 0.3 for name, value in content["state_dict"].items()
    }
    content["onion_lightning"]["flags"] |= flags
    torch.save(content, file)
    return str(file)


def test_another_model_is_evaluated_as_if_it_were_the_first_and_the_first_as_without_it(
    evaluated, flags, shell, tmp_path
):
    alone, samples, _ = evaluated(name="alone")
    other = save_other(tmp_path / "run" / "last.ckpt", tmp_path / "run" / "best.ckpt")
    swapped, swapped_samples, _ = evaluated("--ckpt_path", other, name="swapped")
    beside = ("--also", "votes=best", "--also", f"more={tmp_path / 'run' / 'last.ckpt'}")
    metrics, both, page = evaluated(*beside, name="beside")
    assert list(metrics["systems"]) == ["base", "few_shot", "tuned", "votes", "more", "real"]
    for name, expected in (("base", alone), ("tuned", alone), ("real", alone)):
        assert metrics["systems"][name] == expected["systems"][name]
    assert metrics["systems"]["votes"] == swapped["systems"]["tuned"] != alone["systems"]["tuned"]
    assert metrics["systems"]["more"] == alone["systems"]["tuned"]
    for one, first, second in zip(both, samples, swapped_samples, strict=True):
        assert one["systems"]["tuned"] == first["systems"]["tuned"]
        assert one["systems"]["votes"] == second["systems"]["tuned"]
    difference = metrics["systems"]["votes"]["loss"] - metrics["systems"]["tuned"]["loss"]
    pair = metrics["paired"]["votes_minus_tuned"]
    assert pair["difference"] == pytest.approx(difference)
    assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]
    assert metrics["paired"]["more_minus_tuned"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert re.search(r"The loss of votes is .* that of the tuned model", page)
    assert f"votes: {other}." in page
    words = (*SMALL, *beside, "--ckpt_path", "last", *ranks(2), "--output", str(tmp_path / "two"))
    done = shell(flags("evaluate", *words))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "two" / "samples.jsonl") == both
    assert f"loss, votes minus tuned: {difference:+.3f} (95% interval" in done.stderr


@pytest.mark.parametrize(
    ("also", "says"),
    [
        ("last.ckpt", "--also last.ckpt: must be NAME=CHECKPOINT"),
        ("votes=", "--also votes=: must be NAME=CHECKPOINT"),
        ("a b=last", "--also a b=last: must be NAME=CHECKPOINT"),
        ("tuned=last", "--also tuned=last: the name tuned is taken"),
        ("best_of=last", "the name best_of is taken"),
        ('["a=last", "a=best"]', "--also a=best: the name a is taken"),
        ("votes=no/such.ckpt", "--also no/such.ckpt: no such file"),
        ("votes=rank", "was trained with --model.lora_rank 4, and --ckpt_path with 8"),
        ("votes=layers", "its adapters are of other layers, or of another base model"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(evaluated, refused, tmp_path, monkeypatch, also, says):
    last = tmp_path / "run" / "last.ckpt"
    save_other(last, tmp_path / "rank", **{"model.lora_rank": 4})
    content = torch.load(last, weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, tmp_path / "layers")
    monkeypatch.chdir(tmp_path)
    words = (*SMALL, "--ckpt_path", str(last), "--also", also, "--output", str(tmp_path / "report"))
    assert says in refused("evaluate", *words)
    assert not (tmp_path / "report").exists()


def test_a_flag_that_is_given_several_times_is_a_list():
    assert prepare(["serve", "--also", "a=1", "--port=7", "--also=b=2"]) == [
        "serve",
        "--port",
        "7",
        "--also",
        '["a=1", "b=2"]',
    ]
    assert prepare(["serve", "--also", "a=1"]) == ["serve", "--also", "a=1"]


@pytest.mark.parametrize("load_in", ["none", "int8"])
def test_adapters_are_exchanged_inside_the_block_only(tiny_base, run, tmp_path, load_in):
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0")
    other = save_other(tmp_path / "run" / "last.ckpt", tmp_path / "other.ckpt")
    made = module(tiny_base, load_in=load_in).eval()
    own = {name: parameter.clone() for name, parameter in made.named_parameters() if parameter.requires_grad}
    placed = place_adapters(made, read_others(made, [f"votes={other}"]))

    def written():
        return made.write(["Egg Wins"], seed=0, max_new_tokens=20)

    before = written()
    with other_adapters(made, placed["votes"]):
        inside = written()
    assert written() == before != inside
    assert all(torch.equal(parameter, own[name]) for name, parameter in made.named_parameters() if name in own)
    made.load_state_dict(read_checkpoint(tmp_path / "other.ckpt")["state_dict"])
    assert written() == inside
