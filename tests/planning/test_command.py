"""The `plan` command: what it prints and writes, with any config, and what it refuses."""

import json
import sys

import pytest

from onion_lightning.cli.main import main
from onion_lightning.planning.memory import CUDA_CONTEXT, predict_memory
from onion_lightning.pretrained.locate import load_config

GPUS = ("--trainer.accelerator", "gpu", "--trainer.precision", "16-mixed", "--trainer.devices", "2")


@pytest.fixture
def planned(run, tmp_path):
    """Run the command, and return the content of plan.json."""

    def command(*words):
        run("plan", *words, "--output", str(tmp_path / "plan"), "--overwrite", "true")
        return json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))

    return command


def peak(plan, checkpointing=False):
    return plan["memory"]["with_checkpointing" if checkpointing else "without_checkpointing"]["peak"]


def test_nothing_is_loaded_or_written_unless_it_is_asked_for(run, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    run("plan")
    assert [path.name for path in tmp_path.iterdir()] == []
    assert not any("Loaded" in record.message for record in caplog.records)
    assert "It fits" in capsys.readouterr().err


def test_a_card_without_a_number_of_devices_is_planned_as_one_and_the_plan_says_so(run, capsys):
    run("plan", "--gpu", "A100 80GB", "--trainer.devices", "auto")
    assert "Assumed: one such card; give --trainer.devices for more." in capsys.readouterr().err
    run("plan", "--gpu", "A100 80GB", "--trainer.devices", "2")
    assert "one such card" not in capsys.readouterr().err


def test_the_memory_is_the_prediction_for_the_largest_micro_batch_on_one_of_the_devices(planned, tiny_base):
    plan = planned("--gpu", "A100 80GB", *GPUS)
    assert plan["target"]["ranks"] == 2
    flags = {"load_in": "int8", "precision": "16-mixed", "lora_rank": 8, "target_modules": ["q_proj", "v_proj"]}
    shape = {"rows": 4, "length": plan["work"]["longest"], "ranks": 2, "device_type": "cuda"}
    for checkpointing in (False, True):
        expected = predict_memory(load_config(str(tiny_base)), gradient_checkpointing=checkpointing, **flags, **shape)
        assert peak(plan, checkpointing) == expected.total
    assert plan["cost"]["exchanged"] == expected.gradients + 8
    assert plan["fits"]


def test_a_card_that_is_too_small_gets_flags_with_which_the_run_is_predicted_to_fit(planned, tiny_base, capsys):
    usable = (peak(planned("--gpu", "24GB")) + peak(planned("--gpu", "24GB"), True)) // 2
    card = f"{(usable + CUDA_CONTEXT) / 0.9e9:.9f}GB"
    capsys.readouterr()
    plan = planned("--gpu", card)
    printed = capsys.readouterr().err
    assert not plan["fits"]
    assert "It does not fit" in printed
    assert {"--model.gradient_checkpointing": True} in [one["flags"] for one in plan["remedies"]]
    for remedy in plan["remedies"]:
        assert remedy["peak"] <= usable
        words = [word for flag, value in remedy["flags"].items() for word in (flag, str(value).lower())]
        assert all(f"{flag} {value}" in printed for flag, value in zip(words[::2], words[1::2], strict=True))
        again = planned("--gpu", card, *words)
        assert again["fits"]
        assert peak(again, again["settings"]["gradient_checkpointing"]) == remedy["peak"]


def test_the_largest_micro_batch_divides_the_global_batch_and_the_next_one_does_not_fit(planned):
    sizes = (1, 2, 4, 8)
    peaks = {size: peak(planned("--gpu", "24GB", "--data.batch_size", str(size))) for size in sizes}
    card = f"{(peaks[4] + CUDA_CONTEXT) / 0.9e9 + 1e-6:.9f}GB"
    found = planned("--gpu", card, "--find_batch_size", "true")["largest_batch"]
    assert found == {"batch_size": 4, "peak": peaks[4]}
    assert planned("--gpu", "24GB", "--find_batch_size", "true")["largest_batch"]["batch_size"] == 8
    assert planned("--gpu", "0.1GB", "--find_batch_size", "true")["largest_batch"] == {"batch_size": None, "peak": None}


def test_the_price_is_that_of_each_device(planned, capsys):
    one, two = (planned("--gpu", "T4", *GPUS[:4], *n, "--price_per_hour", "2") for n in ((), GPUS[4:]))
    assert one["cost"]["money"] == pytest.approx([2 / 3600 * end for end in one["cost"]["seconds"]])
    assert two["cost"]["money"] == pytest.approx([4 / 3600 * end for end in two["cost"]["seconds"]])
    assert "cost of the run" in capsys.readouterr().err


def test_a_network_adds_the_communication_of_several_nodes(planned, capsys):
    plan = planned(
        "--gpu", "T4", *GPUS[:4], "--trainer.devices", "4", "--trainer.num_nodes", "2", "--network", "1 GB/s, 2 ms"
    )
    assert plan["target"]["network"] == {"name": "1 GB/s, 2 ms", "bandwidth": 1e9, "latency": pytest.approx(2e-3)}
    assert [one["link"] for one in plan["cost"]["communication"]] == ["NVLink", "PCIe"]
    assert all(one["between"] > 3 * 2 * 2e-3 and one["share"][0] > 0 for one in plan["cost"]["communication"])
    assert "between 2 nodes, 1 GB/s, 2 ms" in capsys.readouterr().err


@pytest.mark.parametrize(("shard", "ranks", "nodes"), [("true", 2, 1), ("all", 4, 2)])
def test_sharded_weights_are_gathered_from_the_ranks_that_share_them(planned, capsys, shard, ranks, nodes):
    words = ("--gpu", "T4", *GPUS, "--trainer.num_nodes", "2", "--network", "1 GB/s, 2 ms", "--data.batch_size", "1")
    whole, plan = planned(*words), planned(*words, "--model.shard", shard)
    shared = plan["memory"]["without_checkpointing"]["shared"]
    assert (shared["ranks"], shared["count"]) == (ranks, 2)
    gathers = plan["cost"]["gathers"]
    assert (gathers["count"], gathers["nodes"]) == (2 * 2 * 2, nodes)  # two passes of two micro-batches
    assert gathers["received"] == 2 * 2 * (shared["size"] - shared["size"] // ranks)
    assert "to each device, in 8 all-gathers" in capsys.readouterr().err
    across = plan["cost"]["communication"][0]["between"] - whole["cost"]["communication"][0]["between"]
    expected = 8 * (nodes - 1) * (2e-3 + (ranks - 1) / ranks * gathers["size"] / 1e9)
    assert across == pytest.approx(expected)


def test_the_checkpoint_of_a_run_has_the_predicted_size(run, planned, tmp_path):
    expected = planned("--model.target_modules", "all-linear", "--model.lora_rank", "64")["cost"]["checkpoint"]
    words = ("--model.target_modules", "all-linear", "--model.lora_rank", "64", "--trainer.limit_val_batches", "0")
    run("fit", *words, "--trainer.max_steps", "2")
    assert (tmp_path / "run" / "last.ckpt").stat().st_size == pytest.approx(expected, rel=0.05)


def test_the_probe_trains_three_steps_and_stands_beside_the_prediction(planned, capsys):
    found = planned("--probe", "true")["probe"]
    assert len(found["seconds"]) == 3
    assert found["predicted_peak"] > 0
    assert "measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "card", "ranks"),
    [("ddp8", "RTX 4090", 8), ("gpu1", "RTX 4090", 1), ("qlora", "T4", 1), ("t4x2", "T4", 2)],
)
def test_the_configs_for_gpus_are_planned_offline_on_a_machine_without_one(config, card, ranks, tmp_path, capsys):
    assert main(["plan", "--config", config, "--gpu", card, "--output", str(tmp_path)]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    memory = plan["memory"]["with_checkpointing"]
    assert (memory["parameters"], memory["trainable"]) == (6_738_415_616, 4_194_304)
    assert plan["target"]["ranks"] == ranks
    assert plan["fits"]
    assert plan["cost"]["seconds"][0] > 0
    assert "wandb" not in sys.modules or not list(tmp_path.rglob("wandb"))


def test_a_config_for_gpus_without_a_card_lists_those_that_it_fits(planned, capsys):
    plan = planned(*GPUS)
    assert (plan["fits"], plan["target"]["memory"], plan["cost"]["step_seconds"]) == (None, None, None)
    assert "T4" in plan["cards"]
    assert "Give --gpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gpu", "A100"), "--gpu A100: may be A100 40GB or A100 80GB"),
        (("--gpu", "Voodoo 2"), "--gpu Voodoo 2: is not in the table of cards"),
        (("--price_per_hour", "-1"), "--price_per_hour -1.0: must be at least 0"),
        (("--network", "fast", "--trainer.num_nodes", "2"), "--network fast: must be a rate above 0 such as"),
        (("--network", "25 Gbit/s"), "--network 25 Gbit/s: has no effect on one node; give --trainer.num_nodes 2"),
        (("--trainer.devices", "0"), "--trainer.devices 0: must be at least 1"),
        (
            ("--trainer.devices=-1",),
            "--trainer.devices -1: must be a number of processes for --trainer.accelerator cpu",
        ),
        (("--trainer.strategy", "fsdp"), "--trainer.strategy fsdp: is not supported; give ddp"),
        (("--trainer.max_steps", "0"), "--trainer.max_steps 0: fit would train nothing"),
        (("--trainer.limit_train_batches", "3"), "give a multiple of 2."),
        (("--trainer.max_epochs", "-2"), "--trainer.max_epochs -2: must be at least -1"),
        (
            ("--trainer.limit_train_batches", "1.5"),
            "--trainer.limit_train_batches 1.5: must be a number of micro-batches",
        ),
        (("--trainer.num_nodes", "0"), "--trainer.num_nodes 0: must be at least 1"),
        (("--trainer.precision", "16-true"), "--trainer.precision 16-true: adapters are trained in float32"),
        (("--trainer.accelerator", "tpu"), "--trainer.accelerator tpu: is not supported"),
        (("--data.path", "none.csv"), "no such file"),
        (("--model.base_model", "someone/Some-Model"), "--model.base_model someone/Some-Model: is neither a local"),
        (("--output", ""), "--output '': is empty"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_sentence(refused, words, says):
    assert says in refused("plan", *words)


def test_an_earlier_plan_is_replaced_and_a_file_of_that_name_is_not(run, refused, tmp_path):
    words = ("plan", "--output", str(tmp_path / "p"), "--data.max_length")
    run(*words, "100")
    run(*words, "90")
    assert json.loads((tmp_path / "p" / "plan.json").read_text())["settings"]["max_length"] == 90
    (tmp_path / "p" / "plan.json").write_text("{}")
    assert "its plan.json is not marked as “onion_lightning plan”" in refused(*words, "80")
    assert (tmp_path / "p" / "plan.json").read_text() == "{}"
