"""The loss and its gradients are those of TRL's DPOTrainer, and do not depend on micro-batches."""

import warnings

import pytest
import torch

from onion_lightning.data.collate import collate
from onion_lightning.data.preferences.batches import PairBatch
from onion_lightning.data.prompt import encode_examples
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.errors import OnionError
from onion_lightning.model.preferences.loss import HeldOutPairs, PairFigures, PreferenceSettings
from onion_lightning.model.preferences.module import PreferenceModule
from tests.pairs import some_pairs

ALPHA = 0.3
LOSSES = {  # flags: arguments of DPOConfig
    "sigmoid": ({"beta": 0.2}, {"beta": 0.2}),
    "length": ({"beta": 2.0, "length_normalized": True}, {"beta": 2.0, "loss_type": ["sigmoid_norm"]}),
    "rpo": ({"rpo_alpha": ALPHA}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, ALPHA]}),
}


@pytest.fixture
def made(tiny_base):
    """Returns a function that builds a module in float32 whose adapters are not zero."""

    def build(**flags):
        module = PreferenceModule(base_model=str(tiny_base), load_in="none", lora_dropout=0.0, seed=1, **flags)
        module.load_base(torch.device("cpu"), "32-true")
        shake(module, 1)
        return module

    return build


def shake(module, seed):
    """Change all adapters by random numbers."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += 0.03 * torch.randn(parameter.shape)


def examples(module, count):
    """Return the rows of pairs: chosen and rejected in turn."""
    rows = some_pairs(count)
    articles = [row[name] for row in rows for name in ("chosen", "rejected")]
    headlines = [row["prompt"].splitlines()[0] for row in rows for _ in range(2)]
    return encode_examples(module.tokenizer, headlines, articles, 200, "cut")


def batch(rows, reference=None, pairs=None, chosen=None):
    """Collate rows of pairs. `reference` is a function of the batch."""
    lengths = [len(row.input_ids) - row.prompt_length for row in rows]
    micro = MicroBatch(tuple(range(len(rows))), chosen or sum(lengths[0::2]), 0, 0)
    made = PairBatch(
        **collate([row.input_ids for row in rows], [row.prompt_length for row in rows], micro),
        article_lengths=lengths,
        lengths=torch.tensor(lengths, dtype=torch.float32).view(-1, 2),
        reference=torch.zeros(sum(lengths)),
        pairs=pairs or len(rows) // 2,
    )
    if reference is not None:
        with torch.no_grad():
            made["reference"] = reference(made)
    return made


def gradients(module):
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.requires_grad}
    module.zero_grad()
    return found


def trl_step(module, base, folder, rows, **settings):
    """Return the loss and the gradients of TRL for pairs; the reference is what the module's adapters are now."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    module.model.save_pretrained(folder / "adapters")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base), folder / "adapters", is_trainable=True
        )
        tokenizer = module.tokenizer
        tokenizer.pad_token = tokenizer.eos_token
        config = DPOConfig(
            str(folder / "dpo"), report_to=[], use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True,
            gradient_checkpointing=False, **settings,
        )  # fmt: skip
        import datasets

        dataset = datasets.Dataset.from_list(some_pairs(2))
        trainer = DPOTrainer(model, args=config, train_dataset=dataset, processing_class=tokenizer)
        shake(module, 2)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                model.get_parameter(name.removeprefix("model.")).data.copy_(parameter.data)
        pairs = [
            {"prompt_ids": one.input_ids[: one.prompt_length]}
            | {f"{kind}_ids": row.input_ids[row.prompt_length :] for kind, row in (("chosen", one), ("rejected", two))}
            for one, two in zip(rows[0::2], rows[1::2], strict=True)
        ]
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(pairs))
        loss.backward()
    found = {f"model.{name}": p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    return loss.detach(), found


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_and_gradients_of_a_step_are_those_of_trl(made, tiny_base, tmp_path, kind):
    """The run starts from adapters, and has moved away from them."""
    flags, settings = LOSSES[kind]
    module = made(**flags)
    rows = examples(module, 5)
    ours = batch(rows, module.log_probs)
    expected, expected_gradients = trl_step(module, tiny_base, tmp_path, rows, **settings)
    loss = module.shares(ours)[0]
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=1e-4)
    assert abs(loss.item() - 0.6931) > 0.005
    found = gradients(module)
    assert found.keys() == expected_gradients.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-4)
    assert max(float(gradient.abs().max()) for gradient in found.values()) > 1e-2


def test_micro_batches_add_up_to_the_global_batch(made):
    module = made(rpo_alpha=ALPHA)
    rows = examples(module, 6)
    whole = batch(rows, module.log_probs)
    shake(module, 2)
    shares = module.shares(whole)
    shares[0].backward()
    expected, expected_gradients = shares.detach(), gradients(module)
    total = torch.zeros(3)
    starts = [0, 2, 8]  # rows: one pair, three, two
    for start, end in zip(starts, [*starts[1:], 12], strict=True):
        part = batch(rows[start:end], pairs=6, chosen=whole["supervised"])
        at = sum(whole["article_lengths"][:start])
        part["reference"] = whole["reference"][at : at + len(part["targets"])]
        shares = module.shares(part)
        shares[0].backward()
        total += shares.detach()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients(module).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6)


def test_at_the_reference_rewards_are_zero_and_the_loss_is_that_of_a_coin(made):
    module = made()
    with torch.no_grad():
        figures = module.pair_figures(batch(examples(module, 3), module.log_probs))
    assert float(figures.loss) == pytest.approx(3 * 0.693147, abs=1e-6)
    assert (float(figures.margin), float(figures.accuracy), float(figures.divergence)) == (0.0, 0.0, 0.0)


def test_length_normalization_makes_rewards_independent_of_length(made):
    settings, normalized = PreferenceSettings(beta=1.0), PreferenceSettings(beta=1.0, length_normalized=True)
    lengths = [2, 8]
    known = (torch.zeros(10), lengths, torch.tensor([lengths], dtype=torch.float32))
    assert float(settings.figures(torch.full((10,), -0.5), *known).margin) == pytest.approx(3.0)
    assert float(normalized.figures(torch.full((10,), -0.5), *known).margin) == pytest.approx(0.0)


def test_held_out_figures_are_means_over_all_pairs():
    class Alone:
        def reduce(self, sums, reduce_op):
            return sums

    held_out = HeldOutPairs(torch.device("cpu"), rpo_alpha=0.5)
    held_out.update(PairFigures(*map(torch.tensor, (1.0, 6.0, 1.0, 0.5, 3.0))), [2, 4])
    held_out.update(PairFigures(*map(torch.tensor, (2.0, 4.0, 1.0, 1.0, 1.0))), [3, 1, 5, 5])
    found = {name: float(value) for name, value in held_out.compute(Alone()).items()}
    assert found == pytest.approx(
        {"loss": 3 / 3 + 0.5 * 10 / 10, "reward_accuracy": 2 / 3, "reward_margin": 1.5 / 3, "kl": 4 / 20}
    )


@pytest.mark.parametrize("flags", [{"beta": 0.0}, {"beta": -1.0}, {"rpo_alpha": -0.1}])
def test_values_out_of_range_are_refused(flags):
    with pytest.raises(OnionError, match=rf"--model.{next(iter(flags))} .*: must be"):
        PreferenceModule(**flags)
