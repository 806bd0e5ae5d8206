"""Every flag of this project has a good value here, and bad ones with the range that their refusal names."""

import inspect

import pytest

from onion_lightning.cli.commands import (
    run_attend,
    run_evaluate,
    run_export,
    run_memorize,
    run_plan,
    run_preview,
    run_serve,
    run_verify,
)
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.preferences.module import PreferenceDataModule
from onion_lightning.errors import OnionError
from onion_lightning.model.articles.writer import ArticleWriter
from onion_lightning.model.module import OnionModule
from onion_lightning.model.preferences.module import PreferenceModule
from onion_lightning.training.last_checkpoint import LastCheckpoint
from onion_lightning.training.samples import Samples

CLASSES = {
    "model": OnionModule,
    "data": OnionDataModule,
    "checkpoint": LastCheckpoint,
    "samples": Samples,
    "articles": ArticleWriter,
}
WITH_PAIRS = {"model": PreferenceModule, "data": PreferenceDataModule}  # with --data.pairs, these instead
FREE = "base_model load_in gradient_checkpointing headline_column article_column overflow headlines headlines_file"
FREE += " adapter truncated near_duplicates use_rslora use_dora optimizer shard pairs length_normalized"
UNBOUNDED = {f"{group}.{name}" for group in CLASSES for name in (*FREE.split(), "resume", "keep_all")}
UNBOUNDED |= {"model.seed", "samples.dirpath"}
# flag: (good values, bad values, the range in the refusal)
BOUNDED = {
    "model.lora_rank": ([1], [0, -1], "at least 1"),
    "model.lora_alpha": ([1], [0, -1], "above 0"),
    "model.lora_dropout": ([0.0, 0.99], [-0.1, 1.0], "at least 0 and below 1"),
    "model.target_modules": (["auto", "all-linear", ["q_proj"]], ["q_proj", []], "auto, all-linear, or a list"),
    "model.init_lora_weights": (["kaiming", "gaussian"], ["true", "xavier"], "kaiming or gaussian"),
    "model.learning_rate": ([1e-9], [0.0, -1.0], "above 0"),
    "model.lora_plus_ratio": ([0.5, 16.0], [0.0, -1.0], "above 0"),
    "model.neftune_alpha": ([0.0, 5.0], [-1.0], "at least 0"),
    "model.weight_decay": ([0.0], [-0.1], "at least 0"),
    "model.warmup_ratio": ([0.0, 1.0], [-0.1, 1.1], "from 0 to 1"),
    "model.beta": ([0.01, 5.0], [0.0, -1.0], "above 0"),
    "model.rpo_alpha": ([0.0, 1.0], [-0.1], "at least 0"),
    "model.max_new_tokens": ([1, 100_000], [0, -1], "at least 1"),
    "model.temperature": ([0.0, 5.0], [-0.1], "0 .greedy. or greater"),
    "model.top_p": ([0.01, 1.0], [0.0, 1.1], "above 0 and at most 1"),
    "model.repetition_penalty": ([0.1], [0.0, -1.0], "above 0"),
    "model.adapter_strength": ([0.0, 1.5, 2.0], [-0.1, 2.1], "from 0 .the base model. to 2"),
    "model.candidates": ([1, 9], [0], "at least 1"),
    "model.best_of": ([1, 8], [0], "at least 1"),
    "data.path": (["a.csv", ["a.csv", "b.csv"]], [[], ["a.csv", "a.csv"], ["a.csv", ""]], "a source, or a list of"),
    "data.encoding": (["cp1251", "UTF-8"], ["utf-9", "base64"], "an encoding of text"),
    "data.delimiter": ([";", "\t", "\\t"], ["", ";;", '"', "\n"], "one character"),
    "data.escapechar": (["\\", ""], ["ab", '"', "\n"], "one character"),
    "data.quotechar": (['"', "'", "none", ""], ["''", "\n"], "one character"),
    "data.separator": ([" #~# ", "\\n\\n", "### Response:"], ["", "  "], "text other than spaces"),
    "data.min_words": ([0], [-1], "at least 0"),
    "data.language": (["keep", "auto", "en"], ["xx", ""], "keep, auto, or one of"),
    "data.skip_cleaning": ([["html_tags"], []], [["eggs"]], "names among line_endings, "),
    "data.val_fraction": ([0.0, 0.9], [-0.1, 1.0], "at least 0 and less than 1"),
    "data.test_fraction": ([0.0, 0.9], [-0.1, 1.0], "at least 0 and less than 1"),
    "data.max_length": ([8], [7], "at least 8"),
    "data.batch_size": ([1], [0], "at least 1"),
    "data.global_batch_size": ([1], [0], "at least 1"),
    "data.predict_batch_size": ([1], [0], "at least 1"),
    "data.num_workers": ([0, 1], [-1, 100_000], "from 0 to"),
    "data.seed": ([0], [-1], "at least 0"),
    "checkpoint.dirpath": (["run"], ["", " "], "a folder"),
    "checkpoint.every_n_train_steps": ([1], [0], "at least 1"),
    "samples.count": ([0], [-1], "at least 0"),
    "articles.path": (
        ["a.jsonl", "b/c.CSV", "d.md", "e.txt"],
        ["a.json", "a.csv.gz", "a", ".csv"],
        "a file that ends in",
    ),
    "samples.max_new_tokens": ([1], [0, -3], "at least 1"),
}
COMMANDS = {  # their values are checked in the tests of each command
    run_evaluate: "ckpt_path shots count batch_size best_of also output overwrite",
    run_memorize: "ckpt_path count batch_size limit output overwrite",
    run_serve: "ckpt_path also host port max_queue votes export_votes share auth_file no_auth",
    run_export: "ckpt_path output merge gguf llama_cpp verify push overwrite",
    run_plan: "ckpt_path gpu network price_per_hour probe find_batch_size output overwrite",
    run_verify: "path ckpt_path count tolerance url url_model",
    run_preview: "ckpt_path rows output overwrite",
    run_attend: "query key text text_file headline ckpt_path output overwrite"
    " effect effect_tokens effect_window alternatives",
}


def test_every_flag_has_an_entry():
    classes = [*CLASSES.items(), *WITH_PAIRS.items()]
    flags = {f"{group}.{name}" for group, cls in classes for name in inspect.signature(cls).parameters} - {
        "model.kwargs",
        "data.kwargs",
    }
    assert flags - UNBOUNDED == BOUNDED.keys()
    for command, names in COMMANDS.items():
        given = set(inspect.signature(command).parameters) - {"trainer", "session", "model", "datamodule"}
        assert given == set(names.split())


@pytest.mark.parametrize("flag", BOUNDED)
def test_values_at_the_bounds_are_accepted_and_others_refused(flag):
    group, name = flag.split(".")
    good, bad, accepted = BOUNDED[flag]
    made = CLASSES[group] if name in inspect.signature(CLASSES[group]).parameters else WITH_PAIRS[group]
    for value in good:
        made(**{name: value})
    for value in bad:
        with pytest.raises(OnionError, match=rf"^--{flag} .*: must be {accepted}"):
            made(**{name: value})
