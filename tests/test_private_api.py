"""Each use of a library's private API does what the project relies on; a test here fails when the library changes it."""

import ast
from pathlib import Path

import datasets
import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from onion_lightning import private_api
from onion_lightning.cli.onion_cli import OnionCLI
from tests.conftest import ROOT


class Line(pl.LightningModule):
    """Fits a line, and counts its validation steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.validated = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validated += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Recorder(CSVLogger):
    """Keeps every row that Lightning logs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})


class Probe(pl.Callback):
    """Calls the private API after every optimizer step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Line) -> None:
        private_api.run_validation(trainer)
        assert trainer.training
        assert pl_module.validated == 2

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object, **kwargs: object) -> None:
        self.rows.append(private_api.row_to_log(trainer))
        torch.save(private_api.dump_checkpoint(trainer), self.folder / "dumped.ckpt")
        trainer.save_checkpoint(self.folder / "saved.ckpt")


@pytest.fixture
def trained(tmp_path):
    """A module after four steps, logged every second step, with the rows that were predicted and those that were logged."""
    recorder, probe = Recorder(tmp_path), Probe(tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=4, log_every_n_steps=2, logger=recorder, callbacks=[probe],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        check_val_every_n_epoch=100,
    )  # fmt: skip
    module = Line()
    assert private_api.attached_trainer(module) is None
    trainer.fit(module, DataLoader(torch.ones(8, 1), batch_size=2), DataLoader(torch.ones(2, 1)))
    assert private_api.attached_trainer(module) is trainer
    return probe.rows, recorder.rows


def test_the_row_that_lightning_is_about_to_log_is_known_before_it_does(trained):
    expected, logged = trained
    assert [bool(row) for row in expected] == [False, True, False, True]
    assert [row for row in expected if row] == logged
    assert [row["step"] for row in logged] == [1, 3]


def test_a_checkpoint_without_a_barrier_equals_one_that_lightning_saves(trained, tmp_path):
    dumped, saved = (torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("dumped", "saved"))
    assert dumped.keys() == saved.keys()
    assert dumped["global_step"] == saved["global_step"] == 4
    assert all(torch.equal(value, saved["state_dict"][name]) for name, value in dumped["state_dict"].items())


@pytest.mark.parametrize(("name", "midway"), [("ddp", False), ("ddp_spawn", True), ("ddp_fork", True), ("auto", False)])
def test_strategies_that_start_ranks_midway_are_recognized(name, midway):
    trainer = pl.Trainer(accelerator="cpu", devices=1 if name == "auto" else 2, strategy=name, logger=False)
    assert private_api.starts_ranks_midway(trainer.strategy) == midway


def test_wandb_gets_no_argument_that_it_warns_about(tmp_path):
    logger = WandbLogger(save_dir=str(tmp_path), offline=True)
    assert "anonymous" in logger._wandb_init
    private_api.drop_anonymous(logger)
    assert "anonymous" not in logger._wandb_init


def test_the_attention_implementation_can_be_read_and_restored():
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(config)
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        assert private_api.attention_implementation(model) == name


def test_a_dataset_has_a_fingerprint_that_follows_its_history():
    rows = datasets.Dataset.from_dict({"x": [1, 2, 3]})
    one, other = (private_api.dataset_fingerprint(rows.select(chosen)) for chosen in ([0, 1], [0, 2]))
    assert one == private_api.dataset_fingerprint(rows.select([0, 1]))
    assert one != other


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_bfloat16_is_recognized_by_the_cpu_flags():
    flags = Path("/proc/cpuinfo").read_text().split()
    assert private_api.cpu_has_bfloat16() == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_fake_tensors_have_a_shape_and_a_dtype_and_no_memory():
    with private_api.FakeTensorMode():
        weight = torch.empty(10**9, 1000, dtype=torch.float16)
        assert (weight @ weight[:3].T).shape == (10**9, 3)
    assert weight.untyped_storage().nbytes() == 2 * 10**12
    assert weight.device.type == "cpu"


def test_a_dispatch_mode_sees_the_operations_of_the_backward_pass():
    seen = []

    class Note(private_api.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.ones(3, requires_grad=True)
    with Note():
        x.exp().sum().backward()
    assert torch.ops.aten.exp.default in seen
    assert torch.ops.aten.mul.Tensor in seen  # the gradient of exp


class Sized(pl.LightningModule):
    def __init__(self, width: int = 1) -> None:
        super().__init__()


class Parsed(Exception):
    """Carries a value out of the command line, before anything is built."""


class Parse(LightningCLI):
    """Stops when the command line and the checkpoint have been parsed."""

    def before_instantiate_classes(self) -> None:
        raise Parsed(self.config["fit"].model.width)


class ParseAsOnionCLI(Parse):
    _parse_ckpt_path = OnionCLI._parse_ckpt_path


@pytest.mark.parametrize(("cli", "width"), [(Parse, 7), (ParseAsOnionCLI, 3)])
def test_a_checkpoint_beats_a_given_flag_in_lightning_but_not_where_the_project_overrides_it(
    cli, width, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["fit"])  # Lightning warns about arguments beside `args`
    torch.save({"hyper_parameters": {"width": 7}}, tmp_path / "last.ckpt")
    words = ["fit", "--model.width", "3", "--ckpt_path", str(tmp_path / "last.ckpt")]
    with pytest.raises(Parsed) as parsed:
        cli(Sized, args=words, seed_everything_default=False)
    assert parsed.value.args == (width,)


def private_uses(file: Path) -> list[str]:
    """Private names of other objects that a file uses, and private names that it imports."""
    allowed = {"_asdict", "_replace", "_fields", "_exit"}  # public in spite of their names: namedtuple's, and os._exit
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            found += [name for name in names if name.startswith("_") and not name.endswith("__")]
            found += [node.module for part in (node.module or "").split(".") if part.startswith("_")]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found += [] if own or node.attr in allowed else [node.attr]
    return found


def test_private_names_of_libraries_are_used_in_one_module_only():
    package = ROOT / "onion_lightning"
    files = [file for file in package.rglob("*.py") if file.name != "private_api.py"]
    found = {str(file.relative_to(package)): private_uses(file) for file in files}
    assert {name: uses for name, uses in found.items() if uses} == {}
    assert len(private_uses(package / "private_api.py")) > 5


def test_a_few_rows_can_be_multiplied_by_8_bit_weights():
    x, weight = torch.randn(3, 64, dtype=torch.bfloat16), torch.randint(-127, 128, (32, 64), dtype=torch.int8)
    found = private_api.int8_product(x, weight)
    torch.testing.assert_close(found.float(), x.float() @ weight.float().T, rtol=2**-7, atol=2.0)


@pytest.mark.parametrize(("suffix", "products"), [("", 2), ("_backward", 5)])
def test_the_attention_kernel_of_a_cpu_takes_its_queries_and_keys_where_they_are_looked_for(suffix, products):
    kernel = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{suffix}")
    found = private_api.attention_products(kernel)
    names = [argument.name for argument in kernel.default._schema.arguments]
    assert names[found.query : found.query + 2] == ["query", "key"]
    assert found.products == products
    assert private_api.attention_products(torch.ops.aten.mm) is None
