"""Every argument of Lightning's Trainer, and each of its callbacks, strategies and profilers: it works or is refused."""

import inspect
import json

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks, loggers, profilers
from lightning.pytorch.strategies import StrategyRegistry

from onion_lightning.cli.main import main

# argument: values that work, and values that are refused with words of the sentence
ARGUMENTS: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "accelerator": (["cpu", "auto"], [("tpu", "not supported"), ("hpu", "not supported"), ("", "empty")]),
    "strategy": ([], []),  # see below
    "devices": (["1"], [("0", "devices"), ("-1", "devices"), ("[0]", "devices"), ("x", "devices")]),
    "num_nodes": (["1"], [("0", "num_nodes"), ("-1", "num_nodes"), ("x", "num_nodes")]),
    "precision": (["32", "32-true"], [("64-true", "give 16-mixed"), ("16-true", "give 16-mixed"), ("8", "precision")]),
    "logger": (["false"], [("nonsense.Logger", "logger")]),
    "callbacks": ([], []),  # see below
    "fast_dev_run": (["1", "true", "false"], [("-1", "fast_dev_run"), ("x", "fast_dev_run")]),
    "max_epochs": (["1", "0"], [("-2", "max_epochs"), ("x", "max_epochs")]),
    "min_epochs": (["1", "0"], [("x", "min_epochs")]),
    "max_steps": (["1", "0"], [("-2", "max_steps"), ("x", "max_steps")]),
    "min_steps": (["1"], [("x", "min_steps")]),
    "max_time": (["00:00:01:00"], [("soon", "max_time")]),
    "limit_train_batches": (["2", "0.5"], [("1.5", "limit_train_batches"), ("-1", "limit_train_batches")]),
    "limit_val_batches": (["1", "1.0", "0"], [("1.5", "limit_val_batches"), ("-1", "limit_val_batches")]),
    "limit_test_batches": (["1", "0"], [("1.5", "limit_test_batches"), ("-1", "limit_test_batches")]),
    "limit_predict_batches": (["1", "0"], [("1.5", "limit_predict_batches"), ("-1", "limit_predict_batches")]),
    "overfit_batches": (["0"], [("2", "overfit_batches"), ("0.5", "overfit_batches")]),
    "val_check_interval": (["2", "0.5", "1.0"], [("1000", "val_check_interval"), ("1.5", "val_check_interval")]),
    "check_val_every_n_epoch": (["1"], [("x", "check_val_every_n_epoch")]),
    "num_sanity_val_steps": (["0", "1", "-1"], [("-2", "num_sanity_val_steps")]),
    "log_every_n_steps": (["1", "2"], [("-1", "log_every_n_steps")]),
    "enable_checkpointing": (["true", "false"], [("x", "enable_checkpointing")]),
    "enable_progress_bar": (["true", "false"], [("x", "enable_progress_bar")]),
    "enable_model_summary": (["true", "false"], [("x", "enable_model_summary")]),
    "accumulate_grad_batches": (["1"], [("3", "data.global_batch_size")]),
    "gradient_clip_val": (["1.0", "0"], [("-1", "gradient_clip_val"), ("nan", "gradient_clip_val")]),
    "gradient_clip_algorithm": ([], [("norm", "gradient_clip_val"), ("nonsense", "gradient_clip_algorithm")]),
    "deterministic": (["true", "warn", "false"], [("x", "deterministic")]),
    "benchmark": (["true"], [("x", "benchmark")]),
    "inference_mode": (["true", "false"], [("x", "inference_mode")]),
    "use_distributed_sampler": (["false"], [("x", "use_distributed_sampler")]),
    "profiler": (["simple"], [("nonsense", "profiler")]),
    "detect_anomaly": (["true"], [("x", "detect_anomaly")]),
    "barebones": (["false"], [("x", "barebones")]),
    "plugins": ([], [("nonsense.Plugin", "plugins"), ("BitsandbytesPrecision", "plugins")]),
    "sync_batchnorm": (["false"], [("x", "sync_batchnorm")]),
    "reload_dataloaders_every_n_epochs": (["0"], [("-1", "reload_dataloaders_every_n_epochs")]),
    "default_root_dir": (["."], [("", "empty")]),
    "enable_autolog_hparams": (["true", "false"], [("x", "enable_autolog_hparams")]),
    "model_registry": ([], [("", "empty")]),
}
WORKS = {
    "callbacks": "DeviceStatsMonitor LambdaCallback ModelCheckpoint ModelSummary RichModelSummary SpikeDetection",
    "profilers": "AdvancedProfiler PassThroughProfiler SimpleProfiler",
    "strategies": "ddp ddp_find_unused_parameters_false ddp_find_unused_parameters_true single_device",
}
REFUSED = {
    "callbacks": "BackboneFinetuning BaseFinetuning BatchSizeFinder GradientAccumulationScheduler LearningRateFinder"
    " ModelPruning OnExceptionCheckpoint StochasticWeightAveraging EMAWeightAveraging WeightAveraging",
}
ELSEWHERE = {  # base classes, this project's own, or tested elsewhere, or what needs arguments, a package or hardware
    "callbacks": "BasePredictionWriter Callback Checkpoint ProgressBar RichProgressBar TQDMProgressBar EarlyStopping"
    " LearningRateMonitor Timer ThroughputMonitor",
    "profilers": "Profiler PyTorchProfiler XLAProfiler",
    "loggers": "LitLogger CometLogger CSVLogger Logger MLFlowLogger TensorBoardLogger WandbLogger",
}
ARGUMENTS_OF = {"GradientAccumulationScheduler": {"scheduling": {0: 1}}, "StochasticWeightAveraging": {"swa_lrs": 0.1}}
ARGUMENTS_OF |= {"ModelPruning": {"pruning_fn": "l1_unstructured"}, "OnExceptionCheckpoint": {"dirpath": "."}}


def entries(kind: str) -> set[str]:
    return {name for table in (WORKS, REFUSED, ELSEWHERE) for name in table.get(kind, "").split()}


def test_every_argument_and_every_class_has_an_entry():
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert arguments == ARGUMENTS.keys()
    for kind, module in (("callbacks", callbacks), ("profilers", profilers), ("loggers", loggers)):
        assert entries(kind) == set(module.__all__)


@pytest.fixture
def outcome(flags, capsys, tmp_path, monkeypatch):
    """Returns a function that runs `fit` for a step, and returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def fit(*words: str) -> tuple[int, str]:
        line = flags("fit", "--samples.count", "0", "--trainer.max_epochs", "1", "--trainer.max_steps", "2", *words)
        capsys.readouterr()
        try:
            status = main(line)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.autograd.set_detect_anomaly(False)
        return status, capsys.readouterr().err

    return fit


GOOD = [(name, value) for name, (good, _) in ARGUMENTS.items() for value in good]
BAD = [(name, value, says) for name, (_, bad) in ARGUMENTS.items() for value, says in bad]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_value_that_makes_sense_works(outcome, name, value):
    status, printed = outcome(f"--trainer.{name}={value}")
    assert status == 0, printed


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "value", "says"), BAD)
def test_another_value_is_refused_in_one_sentence_before_weights_load(outcome, caplog, name, value, says):
    status, printed = outcome(f"--trainer.{name}={value}")
    refusals = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert status in (1, 2), printed
    assert len(refusals) == 1
    assert says in refusals[0]
    assert "Traceback" not in printed
    assert not any("Loaded" in record.message for record in caplog.records)


def configured(name: str) -> str:
    return json.dumps([{"class_path": name, "init_args": ARGUMENTS_OF.get(name, {})}])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WORKS["callbacks"].split())
def test_a_callback_of_lightning_works(outcome, name):
    status, printed = outcome("--trainer.callbacks", configured(name), "--trainer.logger", "true")
    assert status == 0, printed


@pytest.mark.parametrize("name", REFUSED["callbacks"].split())
def test_a_callback_that_contradicts_adapters_or_exact_resume_is_refused(outcome, name):
    status, printed = outcome("--trainer.callbacks", configured(name))
    assert status == 1
    assert f"error: --trainer.callbacks {name}: is not supported: " in printed


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WORKS["profilers"].split())
def test_a_profiler_of_lightning_works(outcome, name):
    status, printed = outcome("--trainer.profiler", json.dumps({"class_path": name}))
    assert status == 0, printed


@pytest.mark.parametrize(
    "name", sorted(set(StrategyRegistry.available_strategies()) - set(WORKS["strategies"].split()))
)
def test_another_strategy_is_refused(outcome, name):
    status, printed = outcome("--trainer.strategy", name)
    assert status == 1
    assert printed.count("error: --trainer") == 1
    assert f"--trainer.strategy {name}: is not supported; give ddp, or auto on one device." in printed
