"""Every argument of Lightning's Trainer, and each callback, strategy, profiler and logger: it works or is refused.

Each value is given to `fit`. The other commands get the values that work together, and each value that is refused; those
without a Trainer name the flags that they ignore, and refuse what is wrong in `fit`.
"""

import importlib.util
import inspect
import itertools
import json
import re
import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks, loggers, profilers
from lightning.pytorch.strategies import StrategyRegistry

from onion_lightning.cli.main import main

pytestmark = pytest.mark.sweep

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
    "max_epochs": (["1"], [("0", "nothing"), ("-2", "max_epochs"), ("x", "max_epochs")]),
    "min_epochs": (["1", "0"], [("-1", "at least 0"), ("x", "min_epochs")]),
    "max_steps": (["1"], [("0", "nothing"), ("-2", "max_steps"), ("x", "max_steps")]),
    "min_steps": (["1", "0"], [("-1", "at least 0"), ("x", "min_steps")]),
    "max_time": (["00:00:01:00"], [("00:00:00:00", "nothing"), ("soon", "max_time")]),
    "limit_train_batches": (
        ["2", "0.5"],
        [("0", "nothing"), ("3", "multiple of 2"), ("1.5", "limit_t"), ("-1", "limit_t")],
    ),
    "limit_val_batches": (["1", "1.0", "0"], [("0.01", "less than one"), ("1.5", "limit_val"), ("-1", "limit_val")]),
    "limit_test_batches": (["1", "0"], [("1.5", "limit_test_batches"), ("-1", "limit_test_batches")]),
    "limit_predict_batches": (["1", "0"], [("1.5", "limit_predict_batches"), ("-1", "limit_predict_batches")]),
    "overfit_batches": (["0"], [("2", "overfit_batches"), ("0.5", "overfit_batches")]),
    "val_check_interval": (
        ["2", "0.5", "1.0"],
        [("0", "above 0"), ("3", "multiple"), ("1000", "epoch"), ("1.5", "val_check")],
    ),
    "check_val_every_n_epoch": (
        ["1", "2"],
        [("0", "at least 1"), ("-1", "at least 1"), ("x", "check_val_every")],
    ),
    "num_sanity_val_steps": (["0", "1", "-1"], [("-2", "num_sanity_val_steps")]),
    "log_every_n_steps": (["1", "2", "0"], [("-1", "log_every_n_steps")]),
    "enable_checkpointing": (["true", "false"], [("x", "enable_checkpointing")]),
    "enable_progress_bar": (["true", "false"], [("x", "enable_progress_bar")]),
    "enable_model_summary": (["true", "false"], [("x", "enable_model_summary")]),
    "accumulate_grad_batches": (["1"], [("3", "data.global_batch_size")]),
    "gradient_clip_val": (["1.0", "0"], [("-1", "gradient_clip_val"), ("nan", "gradient_clip_val")]),
    "gradient_clip_algorithm": ([], [("norm", "gradient_clip_val"), ("nonsense", "gradient_clip_algorithm")]),
    "deterministic": (["true", "warn", "false"], [("x", "deterministic")]),
    "benchmark": (["true"], [("x", "benchmark")]),
    "inference_mode": (["true", "false"], [("x", "inference_mode")]),
    "use_distributed_sampler": (["false"], [("true", "assigns rows"), ("x", "use_distributed_sampler")]),
    "profiler": (["simple"], [("nonsense", "profiler")]),
    "detect_anomaly": (["true"], [("x", "detect_anomaly")]),
    "barebones": (["false"], [("true", "not supported"), ("x", "barebones")]),
    "plugins": ([], [("nonsense.Plugin", "plugins"), ("BitsandbytesPrecision", "plugins")]),
    "sync_batchnorm": (["false"], [("true", "no batch norm"), ("x", "sync_batchnorm")]),
    "reload_dataloaders_every_n_epochs": (["0"], [("1", "not supported"), ("-1", "at least 0")]),
    "default_root_dir": (["."], [("", "empty")]),
    "enable_autolog_hparams": (["true", "false"], [("x", "enable_autolog_hparams")]),
    "model_registry": ([], [("", "empty"), ("team/model", "not supported")]),
}
WORKS = {
    "callbacks": "DeviceStatsMonitor EarlyStopping LambdaCallback LearningRateMonitor ModelCheckpoint ModelSummary"
    " RichModelSummary RichProgressBar SpikeDetection TQDMProgressBar",
    "profilers": "AdvancedProfiler PassThroughProfiler PyTorchProfiler SimpleProfiler",
    "loggers": "CSVLogger WandbLogger",
    "strategies": "ddp ddp_find_unused_parameters_false ddp_find_unused_parameters_true single_device",
}
REFUSED = {
    "loggers": "LitLogger CometLogger MLFlowLogger TensorBoardLogger",  # their packages are not installed
    "callbacks": "BackboneFinetuning BaseFinetuning BatchSizeFinder GradientAccumulationScheduler LearningRateFinder"
    " ModelPruning OnExceptionCheckpoint StochasticWeightAveraging Timer EMAWeightAveraging WeightAveraging",
}
ELSEWHERE = {  # base classes, or what needs a function as an argument, or a TPU
    "callbacks": "BasePredictionWriter Callback Checkpoint ProgressBar ThroughputMonitor",
    "profilers": "Profiler XLAProfiler",
    "loggers": "Logger",
}
ARGUMENTS_OF = {"GradientAccumulationScheduler": {"scheduling": {0: 1}}, "StochasticWeightAveraging": {"swa_lrs": 0.1}}
ARGUMENTS_OF |= {"EarlyStopping": {"monitor": "train/loss"}, "Timer": {"duration": "00:01:00:00"}}
ARGUMENTS_OF |= {
    "CSVLogger": {"save_dir": "."},
    "WandbLogger": {"offline": True},
    "TensorBoardLogger": {"save_dir": "."},
}
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
    """Returns a function that runs a command, and returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(name: str, *words: str) -> tuple[int, str]:
        line = flags(name, *words)
        capsys.readouterr()
        try:
            status = main(line)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.autograd.set_detect_anomaly(False)
        return status, capsys.readouterr().err

    return command


SHORT = ("--samples.count", "0", "--trainer.max_epochs", "1", "--trainer.max_steps", "2")
GOOD = [(name, value) for name, (good, _) in ARGUMENTS.items() for value in good]
BAD = [(name, value, says) for name, (_, bad) in ARGUMENTS.items() for value, says in bad]


def wrong_refusal(status: int, printed: str, says: str) -> str:
    """Return what is wrong with a refusal; empty if it is one sentence, before weights are loaded."""
    refusals = [line for line in printed.splitlines() if line.startswith("error: ")]
    right = status in (1, 2) and len(refusals) == 1 and says in refusals[0]
    early = not any(word in printed for word in ("Training on", "Traceback"))
    return "" if right and early else f"status {status}: {printed[-300:]}"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_value_that_makes_sense_works(outcome, name, value):
    status, printed = outcome("fit", *SHORT, f"--trainer.{name}={value}")
    assert status == 0, printed


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "value", "says"), BAD)
def test_another_value_is_refused_in_one_sentence_before_weights_load(outcome, caplog, name, value, says):
    assert not wrong_refusal(*outcome("fit", *SHORT, f"--trainer.{name}={value}"), says)
    assert not any("Loaded" in record.message for record in caplog.records)


def configured(name: str) -> str:
    return json.dumps([{"class_path": name, "init_args": ARGUMENTS_OF.get(name, {})}])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WORKS["callbacks"].split())
def test_a_callback_of_lightning_works(outcome, name):
    status, printed = outcome("fit", *SHORT, "--trainer.callbacks", configured(name), "--trainer.logger", "true")
    assert status == 0, printed


@pytest.mark.filterwarnings("default")
def test_a_metric_that_is_never_computed_is_one_sentence(outcome):
    stopping = json.dumps([{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}])
    status, printed = outcome("fit", *SHORT, "--trainer.callbacks", stopping)
    assert status == 1
    assert (
        "error: --trainer.callbacks EarlyStopping: val/loss was not computed before the end of the epoch; " in printed
    )
    assert "Traceback" not in printed


@pytest.mark.parametrize("name", REFUSED["callbacks"].split())
def test_a_callback_that_contradicts_adapters_or_exact_resume_is_refused(outcome, name):
    status, printed = outcome("fit", "--trainer.callbacks", configured(name))
    assert status == 1
    assert f"error: --trainer.callbacks {name}: is not supported: " in printed


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WORKS["profilers"].split())
def test_a_profiler_of_lightning_works(outcome, name):
    status, printed = outcome("fit", *SHORT, "--trainer.profiler", json.dumps({"class_path": name}))
    assert status == 0, printed


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WORKS["loggers"].split())
def test_a_logger_of_lightning_works(outcome, name):
    status, printed = outcome("fit", *SHORT, "--trainer.logger", configured(name))
    assert status == 0, printed


@pytest.mark.parametrize("name", REFUSED["loggers"].split())
def test_a_logger_whose_package_is_missing_is_refused(outcome, name):
    package = name.removesuffix("Logger").lower().replace("comet", "comet_ml")
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    assert not wrong_refusal(*outcome("fit", "--trainer.logger", configured(name)), "--trainer.logger ")


@pytest.mark.parametrize(
    "name", sorted(set(StrategyRegistry.available_strategies()) - set(WORKS["strategies"].split()))
)
@pytest.mark.parametrize("command", ["fit", "plan", "preview", "attend"])
def test_another_strategy_is_refused(outcome, command, name):
    words = ("--query", "a", "--key", "b", "--text", "b a") if command == "attend" else ()
    status, printed = outcome(command, *words, "--trainer.strategy", name)
    assert status == 1
    assert printed.count("error: --trainer") == 1
    shards = name.startswith(("fsdp", "deepspeed"))
    more = (
        ", and --model.shard true to spread the frozen weights over the ranks" if shards else ", or auto on one device"
    )
    assert f"--trainer.strategy {name}: is not supported; give ddp{more}." in printed


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """The folder in which the checkpoint of three steps is kept."""
    return tmp_path_factory.mktemp("kept")


TEXT = "The University of California said that San Francisco is full of eggs."
OTHERS = {  # fit --ckpt_path is a resume
    "fit": ("--samples.count", "0", "--trainer.max_steps", "5"),
    "validate": (),
    "test": (),
    "predict": ("--data.headlines", "Area Man Wins"),
    "evaluate": ("--count", "2", "--shots", "0", "--output", "e", "--overwrite", "true", "--model.max_new_tokens", "4"),
    "memorize": ("--count", "2", "--batch_size", "64", "--output", "m", "--overwrite", "true"),
    "attend": ("--text", TEXT, "--query", "San Francisco", "--key", "University of California", "--output", "a"),
    "export": ("--output", "x"),
    "plan": (),
    "preview": ("--rows", "2"),
    "verify": ("--count", "2", "--model.max_new_tokens", "4"),
}
WITHOUT_CHECKPOINT = ("plan", "preview")
# These depend on the rows, and are refused by `fit` alone, and by `plan` if it obeys them.
BY_ROWS = {("val_check_interval", "1000"), ("val_check_interval", "3"), ("accumulate_grad_batches", "3")}
BY_ROWS |= {("limit_train_batches", "3")}
# With these `fit` would train nothing: other commands on a Trainer do not train.
NOTHING = {(name, value) for name, value, says in BAD if says == "nothing"}
# `evaluate` and `memorize` need all batches; `limit_val_batches 0.01` is about validation.
NOT_EVALUATE = {
    ("fast_dev_run", "1"),
    ("fast_dev_run", "true"),
    ("limit_predict_batches", "1"),
    ("limit_predict_batches", "0"),
}
# With these a command would do nothing.
IDLE = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
OBEYED = {  # by the commands without a Trainer
    "attend": {"accelerator", "precision", "logger", "enable_progress_bar"},
    "export": {"logger", "enable_progress_bar"},
    "plan": {
        *("accelerator", "precision", "devices", "num_nodes", "strategy"),
        *("max_epochs", "max_steps", "limit_train_batches", "enable_progress_bar"),
    },
    "preview": {"enable_progress_bar"},
    "verify": {"accelerator", "precision", "enable_progress_bar"},
}


@pytest.fixture
def other(outcome, kept, tmp_path):
    """Returns a function that runs another command with a checkpoint of three steps."""
    last, exported = tmp_path / "run" / "last.ckpt", kept.with_name("exported")
    if not (kept / "last.ckpt").exists():
        assert outcome("fit", "--samples.count", "0", "--trainer.max_steps", "3")[0] == 0
        shutil.copytree(last.parent, kept, dirs_exist_ok=True)
        assert outcome("export", "--ckpt_path", str(last), "--output", str(exported))[0] == 0

    def command(name: str, *words: str) -> tuple[int, str]:
        shutil.rmtree(last.parent, ignore_errors=True)
        shutil.copytree(kept, last.parent)
        checkpoint = () if name in WITHOUT_CHECKPOINT else ("--ckpt_path", str(last))
        path = ("--path", str(exported)) if name == "verify" else ()
        return outcome(name, *checkpoint, *path, *OTHERS[name], *words)

    return command


# For the commands without a Trainer, flags that have no value above.
ONLY_IGNORED = {"callbacks": ["[LearningRateMonitor]"], "plugins": ["[]"], "logger": ["true"], "strategy": ["ddp"]}
ONLY_IGNORED |= {"gradient_clip_algorithm": ["norm"], "devices": ["8"], "num_nodes": ["4"], "profiler": ["advanced"]}


def sensible(command: str) -> list[list[tuple[str, str]]]:
    """Return the flags that work together: all first values, all second ones, ..."""
    values = {name: good for name, (good, _) in ARGUMENTS.items()}
    if command in OBEYED:
        values |= {name: good for name, good in ONLY_IGNORED.items() if name not in OBEYED[command]}
    columns = itertools.zip_longest(*([(name, value) for value in good] for name, good in values.items()))
    skipped = {
        "fit": {"fast_dev_run", "max_steps", "max_epochs"},
        "evaluate": set(),
        "memorize": set(),
        **{name: set() for name in OBEYED},
    }
    return [
        [
            (name, value)
            for name, value in filter(None, column)
            if name not in skipped.get(command, {"fast_dev_run"})
            and not (command in ("evaluate", "memorize") and (name, value) in NOT_EVALUATE)
            and (name, value) != (IDLE.get(command), "0")
        ]
        for column in columns
    ]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_work_with_all_sensible_values_at_once(other, command):
    for number, flags in enumerate(sensible(command)):
        status, printed = other(command, *(f"--trainer.{name}={value}" for name, value in flags))
        assert status == 0, (number, printed)
        assert trainer_flags_in(printed) == {name for name, _ in flags if name not in OBEYED.get(command, ARGUMENTS)}


def trainer_flags_in(printed: str) -> set[str]:
    """The flags of the Trainer that a command says it ignores, in one line."""
    lines = [line for line in printed.splitlines() if " ignores flags that have no effect in it: " in line]
    assert len(lines) <= 1
    return set(re.findall(r"--trainer\.(\w+)", "".join(lines)))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_refuse_what_fit_refuses(other, command):
    wrong = {}
    for name, value, says in BAD:
        planned = command == "plan" and name in OBEYED["plan"]
        if value == "x" or ((name, value) in BY_ROWS and command != "fit" and not planned):
            continue  # the parser refuses "x" for every command
        if (name, value) in NOTHING and command != "fit" and command not in OBEYED:
            continue
        if (name, value) == ("limit_val_batches", "0.01") and command not in ("fit", "validate"):
            continue
        status, printed = other(command, "--trainer.accelerator=cpu", f"--trainer.{name}={value}")
        if problem := wrong_refusal(status, printed, says):
            wrong[name, value] = problem
    assert not wrong


@pytest.mark.parametrize("command", OBEYED)
@pytest.mark.parametrize("name", REFUSED["callbacks"].split())
def test_a_command_without_a_trainer_refuses_the_callbacks_that_fit_refuses(other, command, name):
    assert not wrong_refusal(*other(command, "--trainer.callbacks", configured(name)), f"{name}: is not supported: ")


@pytest.mark.parametrize("command", ["evaluate", "memorize"])
@pytest.mark.parametrize(("name", "value"), sorted(NOT_EVALUATE))
def test_evaluate_and_memorize_refuse_to_skip_batches(other, command, name, value):
    assert not wrong_refusal(*other(command, f"--trainer.{name}={value}"), f"{command} needs all batches")


@pytest.mark.parametrize("command", IDLE)
def test_a_command_that_would_do_nothing_is_refused(other, command):
    assert not wrong_refusal(*other(command, f"--trainer.{IDLE[command]}=0"), f"{command} would do nothing")


@pytest.mark.parametrize("command", IDLE)
def test_a_fraction_below_one_batch_is_refused_before_weights_load(other, caplog, command):
    caplog.clear()
    assert not wrong_refusal(*other(command, f"--trainer.{IDLE[command]}=0.01"), "is less than one batch (there are")
    assert not any("Loaded" in record.message for record in caplog.records)


def test_a_fraction_that_evaluate_does_not_read_does_not_concern_it(other):
    status, printed = other("evaluate", "--trainer.limit_test_batches=0.01")
    assert status == 0, printed


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_logger_is_refused_where_nothing_is_logged(other, command):
    assert not wrong_refusal(*other(command, "--trainer.logger=true"), f"because {command} logs nothing")
