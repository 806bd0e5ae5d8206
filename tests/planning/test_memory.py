"""The predicted memory is that of the real module, for each format of the weights, with and without checkpointing."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from transformers import Gemma2Config, LlamaConfig, T5Config

from onion_lightning.data.collate import Batch, collate
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import compute_dtype, load_model
from onion_lightning.model.frozen_linear import PIECE, Int8Linear, Nf4Linear
from onion_lightning.model.optimization.optimizer import adamw_with_cosine
from onion_lightning.planning.fake_model import frozen_linear_layers, int8_layer, nf4_layer, tensors_of
from onion_lightning.planning.live_memory import LiveMemory, storage_bytes
from onion_lightning.planning.memory import CUDA_CONTEXT, MemoryPlan, predict_memory
from onion_lightning.planning.tracer import Tracer
from onion_lightning.planning.training_step import add_gradients, trace_optimizer
from onion_lightning.pretrained.locate import load_config
from tests.benchmarks.config_memory import CARDS, config_plan, table_row
from tests.conftest import ROOT, batch, module

CPU = torch.device("cpu")
FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
CHECKPOINTING = pytest.mark.parametrize("checkpointing", [False, True])
TARGETS = ["q_proj", "v_proj", "down_proj"]


def predict(base, **changes) -> MemoryPlan:
    flags = {"load_in": "int8", "precision": "32-true", "lora_rank": 8, "target_modules": TARGETS}
    flags |= {"gradient_checkpointing": False, "rows": 2, "length": 40, "lora_dropout": 0.05, "device_type": "cpu"}
    return predict_memory(load_config(str(base)), **flags | changes)


def loaded(base, load_in: str, precision: str = "32-true", **more):
    return module(base, precision, load_in=load_in, target_modules=TARGETS, lora_dropout=0.05, **more)


def stepped(made) -> tuple[list[torch.Tensor], int]:
    """Make a step of the whole optimizer, and return its state and the largest addition to it in bytes."""
    add_gradients(made.parameters())
    optimizer = adamw_with_cosine(made.named_parameters(), made.optimization, 1)["optimizer"]
    for group in optimizer.param_groups:
        group["foreach"] = False
    with LiveMemory() as memory:
        optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    return state, memory.peak - storage_bytes(state)


def full_batch(*lengths: int) -> Batch:
    """Return a micro-batch in which every token but a row's first is supervised."""
    rows = [[5] * length for length in lengths]
    return collate(rows, [1] * len(rows), MicroBatch(tuple(range(len(rows))), 1, 1, 0))


@FORMATS
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_weights_and_what_training_adds_to_them_have_the_bytes_of_the_real_module(tiny_base, load_in, precision):
    plan, made = predict(tiny_base, load_in=load_in, precision=precision), loaded(tiny_base, load_in, precision)
    state, _ = stepped(made)
    trained = [one for one in made.parameters() if one.requires_grad]
    linear = [one for layer in frozen_linear_layers(made.language_model) for one in tensors_of(layer)]
    everything = [one for layer in made.modules() for one in tensors_of(layer)]
    assert plan.linear == storage_bytes(linear)
    assert plan.weights + plan.adapters == storage_bytes(everything)
    assert plan.adapters == plan.gradients == storage_bytes(trained) == storage_bytes(one.grad for one in trained)
    assert plan.optimizer == storage_bytes(state)


def test_a_step_that_takes_one_tensor_at_a_time_is_traced_with_one_of_each_shape(tiny_base):
    made = loaded(tiny_base, "int8")
    state, added = stepped(made)
    found, found_added = trace_optimizer(made, "cpu")
    assert found == storage_bytes(state)
    counters = 4 * len(state) // 3  # bytes of step counts, which torch makes without an operation that is counted
    assert 0 <= found_added - added < counters < found_added / 10


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"optimizer": "adamw_8bit", "lora_rank": 64}], ids=str)
def test_other_adapters_and_optimizers_have_the_bytes_of_the_real_ones(tiny_base, kind):
    plan, made = predict(tiny_base, **kind), loaded(tiny_base, "int8", **kind)
    made.loss_sum(full_batch(20, 30)).backward()
    optimizer = adamw_with_cosine(made.named_parameters(), made.optimization, 1)["optimizer"]
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    assert plan.adapters == storage_bytes(one for one in made.parameters() if one.requires_grad)
    assert plan.optimizer == storage_bytes(state)
    assert plan.optimizer != predict(tiny_base).optimizer


@FORMATS
def test_quantized_weights_have_the_bytes_of_the_model_that_is_loaded(tiny_base, load_in):
    """Counted without `tensors_of`: two layers, each with 4 projections of attention and 3 of the MLP."""
    weights = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    rows = 2 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
    scales = {"int8": 4 * rows, "nf4": weights // 64, "none": 0}[load_in]
    found = predict(tiny_base, load_in=load_in, precision="16-mixed").linear
    expected = {"int8": weights, "nf4": weights // 2, "none": 2 * weights}[load_in] + scales
    codebooks = 2 * 7 * {"int8": 256, "nf4": 16 + 256 + 1 + 1, "none": 0}[load_in] * 4
    assert found - expected - codebooks in range(0, 100)


def test_an_nf4_layer_has_the_tensors_that_bitsandbytes_makes():
    """Large enough for several blocks of quantized scales, unlike the tiny model's layers."""
    layer = torch.nn.Linear(200, 300, bias=False)
    weight, state = quantize_4bit(layer.weight.data, compress_statistics=True, quant_type="nf4")
    real = Nf4Linear(weight, state, None, torch.float32)
    made = nf4_layer(layer, torch.float32)
    shapes = [[(one.shape, one.dtype) for one in tensors_of(each)] for each in (made, real)]
    assert shapes[0] == shapes[1]
    assert state.state2.absmax.numel() == 4


@FORMATS
@pytest.mark.parametrize(("precision", "checkpointing"), [("32-true", False), ("32-true", True), ("bf16-mixed", True)])
def test_the_peak_is_that_of_the_tensors_of_a_real_step(tiny_base, load_in, checkpointing, precision):
    plan = predict(tiny_base, load_in=load_in, gradient_checkpointing=checkpointing, precision=precision)
    made = loaded(tiny_base, load_in, precision, gradient_checkpointing=checkpointing)
    add_gradients(made.parameters())  # gradients of earlier micro-batches exist
    dtype = compute_dtype(precision)
    with LiveMemory() as memory:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = made.loss_sum(full_batch(40, 40))
        loss.backward()
    assert plan.total == pytest.approx(plan.constant + memory.peak, rel=0.001)
    assert plan.activations + max(plan.logits, plan.workspace) == pytest.approx(memory.peak, rel=0.001)


@CHECKPOINTING
def test_the_peak_of_dora_is_that_of_the_tensors_of_a_real_step(tiny_base, checkpointing):
    plan = predict(tiny_base, use_dora=True, gradient_checkpointing=checkpointing)
    made = loaded(tiny_base, "int8", use_dora=True, gradient_checkpointing=checkpointing)
    add_gradients(made.parameters())
    with LiveMemory() as memory:
        made.loss_sum(full_batch(40, 40)).backward()
    assert plan.activations + max(plan.logits, plan.workspace) == pytest.approx(memory.peak, rel=0.001)
    assert plan.total > predict(tiny_base, gradient_checkpointing=checkpointing).total


@CHECKPOINTING
def test_further_layers_add_what_the_third_one_adds(tiny_base, checkpointing):
    config = load_config(str(tiny_base))
    config.num_hidden_layers = 6
    flags = {"target_modules": TARGETS, "gradient_checkpointing": checkpointing, "seed": 0}
    tracer = Tracer(config, flags, torch.float32, "cuda")
    assert tracer.all_layers(2, 40) == tracer.first_layers(6, 2, 40)


def test_layers_of_several_types_are_all_traced(monkeypatch):
    config = Gemma2Config(num_hidden_layers=4)
    assert len(set(config.layer_types)) == 2
    traced = []
    tracer = Tracer(config, {}, torch.float32, "cuda")
    monkeypatch.setattr(tracer, "first_layers", lambda layers, rows, length: traced.append(layers))
    tracer.all_layers(1, 8)
    assert traced == [4]


def test_live_memory_counts_what_is_alive_and_no_view_or_older_tensor():
    old = torch.zeros(1000)
    with LiveMemory() as memory:
        view = old[:10]
        view.add_(1)
        one = torch.zeros(250)  # 1000 bytes
        two = one + 1
        assert memory.now == memory.peak == 2000
        del one
        assert (memory.now, memory.peak) == (1000, 2000)
        memory.reset_peak()
        assert memory.peak == two.untyped_storage().nbytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [8, 2000])
def test_a_traced_8_bit_layer_needs_the_memory_of_the_real_one(dtype, rows):
    layer = torch.nn.Linear(1536, rows)
    real = Int8Linear(torch.zeros(rows, 1536, dtype=torch.int8), torch.ones(rows), layer.bias, dtype)
    found = []
    for one in (real, int8_layer(layer, dtype)):
        with LiveMemory() as memory:
            weight = one.dequantize()
        found.append((memory.now, memory.peak, weight.shape, weight.dtype))
    assert found[0] == found[1]
    assert found[0][:2] == (rows * 1536 * 2, rows * 1536 * 2 + min(rows * 1536, PIECE // 1536 * 1536) * 4)


def test_what_logsumexp_allocates_inside_its_kernel_is_counted():
    logits = torch.zeros(20, 1000)  # 80,000 bytes
    with LiveMemory() as memory:
        logits.logsumexp(1)
    assert memory.peak == logits.nbytes
    with torch.profiler.profile(profile_memory=True) as profile:
        logits.logsumexp(1)
    allocated = [event.self_cpu_memory_usage for event in profile.events()]
    assert sum(size for size in allocated if size >= logits.nbytes) == logits.nbytes


@pytest.mark.parametrize("load_in", ["int8", "none"])
def test_checkpointing_stores_less_and_recomputes_more(tiny_base, load_in):
    without, checkpointed = (
        predict(tiny_base, load_in=load_in, gradient_checkpointing=on, length=400) for on in (False, True)
    )
    assert checkpointed.activations < 0.2 * without.activations
    assert checkpointed.workspace > without.workspace
    assert checkpointed.weights == without.weights
    assert checkpointed.total < without.total


@CHECKPOINTING
def test_memory_grows_with_rows_and_tokens(tiny_base, checkpointing):
    shapes = [(1, 40), (1, 80), (2, 80)]
    plans = [predict(tiny_base, gradient_checkpointing=checkpointing, rows=r, length=n) for r, n in shapes]
    for name in ("activations", "logits", "workspace", "total"):
        values = [getattr(plan, name) for plan in plans]
        assert values == sorted(set(values)), name
    assert len({plan.constant for plan in plans}) == 1


def test_on_cuda_dropout_keeps_a_byte_an_element(tiny_base):
    first, second = 128, 64 + 64 + 128  # inputs of the adapted layers; no gradient reaches the first two
    elements = 2 * 40 * (first + second)
    on_cpu, on_cuda = (predict(tiny_base, device_type=device).activations for device in ("cpu", "cuda"))
    assert on_cpu - on_cuda == 3 * elements


def test_several_ranks_add_the_buckets_of_ddp(tiny_base):
    one, two = predict(tiny_base), predict(tiny_base, ranks=2)
    assert two.total - one.total == two.buckets == one.gradients


def test_what_fits_leaves_a_share_of_the_card_to_spare(tiny_base):
    plan = predict(tiny_base)
    needed = plan.total + CUDA_CONTEXT
    assert plan.fits(int(needed / 0.9) + 1)
    assert not plan.fits(int(needed / 0.9) - 1)
    assert plan.fits(needed, spare=0.0)


def test_the_parts_to_print_add_up_to_the_peak(tiny_base):
    *parts, peak = predict(tiny_base).parts().values()
    assert sum(parts) - min(parts[-2:]) == peak  # logits and workspace take turns


@pytest.mark.parametrize("name", CARDS)
def test_each_config_fits_its_card_and_its_row_in_the_documents_is_the_prediction(name):
    assert config_plan(name).fits(CARDS[name] * 10**9)
    assert table_row(name) in (ROOT / "configs" / "README.md").read_text(encoding="utf-8")


def test_a_prediction_changes_neither_the_random_state_nor_what_is_loaded_afterwards(tiny_base):
    def losses() -> list[torch.Tensor]:
        made = [loaded(tiny_base, load_in) for load_in in ("int8", "nf4")]
        return [one.loss_sum(batch(one)).detach() for one in made]

    before = losses()
    state = torch.get_rng_state()
    for load_in in ("int8", "nf4", "none"):
        predict(tiny_base, load_in=load_in, gradient_checkpointing=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert losses() == before
    assert load_model(str(tiny_base), "nf4", CPU, torch.float32).device == CPU


def test_the_config_is_not_modified(tiny_base):
    config = load_config(str(tiny_base))
    before = config.to_dict()
    predict_memory(
        config, load_in="nf4", precision="16-mixed", lora_rank=8, target_modules=["q_proj"],
        gradient_checkpointing=True, rows=1, length=8,
    )  # fmt: skip
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "16-true"}, "--trainer.precision 16-true: "),
        ({"target_modules": ["c_attn"]}, r"--model.target_modules \['c_attn'\]: "),
        ({"lora_rank": 0}, "--model.lora_rank 0: "),
    ],
)
def test_a_flag_that_training_refuses_is_refused_here(tiny_base, changes, message):
    with pytest.raises(OnionError, match=message):
        predict(tiny_base, **changes)


def test_a_model_that_cannot_be_traced_is_reported_in_one_sentence(tiny_base):
    flags = {"load_in": "int8", "precision": "32-true", "lora_rank": 8, "target_modules": ["q_proj"]}
    flags |= {"gradient_checkpointing": False, "rows": 1, "length": 8}
    with pytest.raises(OnionError, match=r"--model\.base_model t5: is not a causal language model"):
        predict_memory(T5Config(), **flags)
    odd = LlamaConfig(vocab_size=60, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    odd.num_key_value_heads, odd.head_dim = 2, 31  # an odd width of a head: rotary embeddings fail
    with pytest.raises(
        OnionError, match=r"--model\.base_model llama: the memory of its training step cannot be predicted"
    ):
        predict_memory(odd, **flags)


@pytest.mark.parametrize("lengths", [(40, 40), (40, 8)])
def test_a_batch_needs_the_memory_of_one_whose_rows_are_all_as_long_as_its_longest(tiny_base, lengths):
    """At most: shorter rows have fewer supervised tokens, hence fewer logits."""
    plan, made = predict(tiny_base), loaded(tiny_base, "int8")
    add_gradients(made.parameters())
    with LiveMemory() as memory:
        made.loss_sum(full_batch(*lengths)).backward()
    assert plan.constant + memory.peak <= 1.02 * plan.total


@pytest.mark.parametrize("target", ["all-linear", "auto", ["lm_head"], ["embed_tokens"]])
def test_any_layers_to_adapt_can_be_predicted(tiny_base, target):
    plan, made = predict(tiny_base, target_modules=target), module(tiny_base, target_modules=target)
    assert plan.adapters == storage_bytes(one for one in made.parameters() if one.requires_grad)
    assert plan.weights + plan.adapters == storage_bytes([*made.parameters(), *made.buffers()])
    assert plan.logits >= 2 * 39 * 600 * 4


def test_sharded_layers_are_counted_as_a_share_and_three_gathered_ones(tiny_base):
    whole, plan = predict(tiny_base, ranks=4), predict(tiny_base, ranks=4, shares=4)
    norms = 2 * 2 * 64 * 4  # in the two decoder layers, and sharded with them
    assert plan.linear == (whole.linear + norms) // 4
    assert plan.gathered == 3 * (whole.linear + norms) // 2
    assert replace(plan, linear=whole.linear, embeddings=whole.embeddings, shared=None) == whole
    assert plan.embeddings == whole.embeddings - norms
    decoder = replace(plan, logits=0, step=0)
    assert decoder.total == plan.constant + plan.activations + plan.workspace + plan.gathered
    assert sum([*decoder.parts().values()][:-1]) == decoder.total
    assert (
        replace(plan, workspace=0, logits=10**9).total == plan.constant + plan.activations + 10**9
    )  # none is gathered
