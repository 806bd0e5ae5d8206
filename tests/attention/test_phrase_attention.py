"""`attend`: figures by hand on a tiny model, what it keeps, its page, its words."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from onion_lightning.attention.page import page_data, render_attention
from onion_lightning.attention.phrase_attention import Span, attend, control_spans, measure, rounded
from onion_lightning.attention.phrases import Phrase
from onion_lightning.attention.plot import plot_attention
from onion_lightning.errors import OnionError
from onion_lightning.evaluation.terminal import share
from onion_lightning.model import base_model
from onion_lightning.model.base_model import load_model
from onion_lightning.pretrained.source import load_tokenizer
from tests.browser import chromium, complaints, requests, screenshot
from tests.conftest import ranks
from tests.model.test_module import module

TEXT = (
    "The town council of Eggville met on Tuesday to discuss the weather, which the mayor said was “not our fault” and"
    " the fog denied. At press time, the mayor had moved to Eggville."
)
ASK = ("--query", "Eggville#2", "--key", "town council")


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_model(str(tiny_base), "none", torch.device("cpu"))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def tuned(tiny_base, request):
    """A model in 8 bit whose adapters do something, as it is on CPUs without and with bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_model, "has_bfloat16", lambda device: request.param == "bfloat16")
        made = module(tiny_base, load_in="int8").eval()
    torch.manual_seed(1)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def by_hand(model, ids):
    """The attention of both layers, from the weights alone: (layers, heads, tokens, tokens), in float64."""
    config, maps = model.config, []
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    hidden = model.model.embed_tokens.weight[torch.tensor(ids)].double()
    place = torch.arange(len(ids)).double()
    theta = config.rope_parameters["rope_theta"] if hasattr(config, "rope_parameters") else config.rope_theta
    angle = place[:, None] / theta ** (torch.arange(0, size, 2).double() / size)  # (tokens, size / 2)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

    def rms(x, norm):
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * norm.weight.double()

    def turned(x):  # (heads, tokens, size)
        half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
        return x * cos + half * sin

    for layer in model.model.layers:
        x, a = rms(hidden, layer.input_layernorm), layer.self_attn
        q, k, v = ((x @ w.weight.double().T) for w in (a.q_proj, a.k_proj, a.v_proj))
        q = turned(q.view(len(ids), heads, size).transpose(0, 1))
        k = turned(k.view(len(ids), groups, size).transpose(0, 1)).repeat_interleave(heads // groups, 0)
        v = v.view(len(ids), groups, size).transpose(0, 1).repeat_interleave(heads // groups, 0)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -math.inf)
        weights = scores.softmax(-1)
        maps.append(weights)
        hidden = hidden + (weights @ v).transpose(0, 1).reshape(len(ids), -1) @ a.o_proj.weight.double().T
        x, m = rms(hidden, layer.post_attention_layernorm), layer.mlp
        gate, up = x @ m.gate_proj.weight.double().T, x @ m.up_proj.weight.double().T
        hidden = hidden + (gate * gate.sigmoid() * up) @ m.down_proj.weight.double().T
    return torch.stack(maps).detach()


def test_figures_are_those_of_attention_computed_by_hand(base, tokenizer):
    answer = attend(base, tokenizer, TEXT, "Eggville#2", "town council")
    ids = [token.id for token in answer.tokens[: answer.query.stop]]
    maps = by_hand(base, ids)
    query, key = slice(answer.query.first, answer.query.stop), slice(answer.key.first, answer.key.stop)
    figures = answer.heads["base"]
    wanted = maps[:, :, query, key].sum(-1).mean(-1)
    np.testing.assert_allclose(figures.key, wanted, atol=1e-5)
    np.testing.assert_allclose(figures.first_token, maps[:, :, query, 0].mean(-1), atol=1e-5)
    controls = torch.stack([maps[:, :, query, a:b].sum(-1).mean(-1) for a, b in answer.controls])
    np.testing.assert_allclose(figures.control_mean, controls.mean(0), atol=1e-5)
    np.testing.assert_allclose(figures.z, (wanted - controls.mean(0)) / controls.std(0), rtol=1e-2)
    half = [(layer.mean(0) + torch.eye(len(ids))) / 2 for layer in maps]
    rolled = (half[1] @ half[0])[query]
    np.testing.assert_allclose(answer.maps["base"].rollout, rolled, atol=1e-5)
    np.testing.assert_allclose(answer.rollout["base"].key, rolled[:, key].sum(-1).mean(), atol=1e-5)


def test_the_maps_are_those_of_the_loaded_8_bit_model_with_its_adapters(tuned):
    # Shares have one rounding; logits have those of every layer before them.
    shares, logits = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (4e-3, 6e-2)}[tuned.language_model.dtype]
    answer = attend(tuned.model, tuned.tokenizer, TEXT, "Eggville#2", "town council")
    for maps in answer.maps.values():
        assert maps.checks.row_sum_error < shares
        assert maps.checks.future == 0.0
        assert maps.checks.logit_difference < logits * maps.checks.logit_scale
    assert np.abs(answer.heads["tuned"].key - answer.heads["base"].key).max() > 1e-3
    ids = torch.tensor([[token.id for token in answer.tokens]])
    language = tuned.language_model
    assert language.config._attn_implementation == "sdpa"  # as it was before
    language.set_attn_implementation("eager")
    with torch.no_grad():
        whole = language(ids, output_attentions=True).attentions  # over the whole text: what follows changes nothing
    language.set_attn_implementation("sdpa")
    rows = slice(answer.query.first, answer.query.stop)
    wanted = torch.stack([layer[0, :, rows, : answer.query.stop].float().mean(1) for layer in whole])
    np.testing.assert_allclose(answer.maps["tuned"].phrase, wanted, atol=1e-5)
    np.testing.assert_allclose(answer.maps["tuned"].each.mean(2), wanted, atol=1e-5)


def test_the_first_token_is_never_counted_in_the_key():
    attention = np.array([[0.5, 0.2, 0.1, 0.2]])
    figures = measure(attention, Span(1, 3), [])
    assert figures.key == pytest.approx([0.3])
    assert figures.first_token == pytest.approx([0.5])
    assert np.isnan(figures.z).all()


def test_a_key_that_begins_with_the_first_token_is_counted_without_it(base, tokenizer):
    answer = attend(base, tokenizer, TEXT, "Eggville#2", "The town")
    whole = dataclasses.replace(answer, key=answer.key._replace(first=0))
    np.testing.assert_array_equal(whole.measure(np.ones((1, 99))).key, [answer.key.stop - 1])


def test_z_counts_the_controls_standard_deviations():
    attention = np.array([0.0, 0.5, 0.1, 0.2, 0.15, 0.05])
    figures = measure(attention, Span(1, 2), [Span(2, 3), Span(3, 4), Span(4, 5)])
    assert float(figures.control_mean) == pytest.approx(0.15)
    assert float(figures.control_std) == pytest.approx(0.05)
    assert float(figures.z) == pytest.approx(7.0)


def phrase(first, stop):
    return Phrase("", 0, 0, first, stop)


def test_controls_have_the_keys_length_and_a_similar_distance_and_meet_no_phrase():
    query, key = phrase(100, 103), phrase(40, 43)
    taken = {*range(40, 43), *range(100, 103), 70}  # the key stands at 70 once more
    spans = control_spans(query, key, taken)
    assert all(span.stop - span.first == 3 for span in spans)
    assert all(30 <= 100 - span.first <= 120 for span in spans)
    assert all(taken.isdisjoint(range(*span)) and span.first > 0 for span in spans)
    distances = [abs(math.log((100 - span.first) / 60)) for span in spans]
    assert distances == sorted(distances)
    assert len(spans) == 62  # of 70 starts, 8 would meet a phrase


def test_a_short_text_takes_what_controls_it_has():
    spans = control_spans(phrase(8, 9), phrase(7, 8), {7, 8})
    assert [span.first for span in spans] == [6, 5, 4, 3, 2, 1]


def test_heads_rank_by_z_and_those_that_give_the_key_next_to_nothing_last(base, tokenizer):
    answer = attend(base, tokenizer, TEXT, "Eggville#2", "town council")
    quiet = torch.rand(1, 4, answer.query.stop, generator=torch.Generator().manual_seed(0)) * 1e-4
    quiet[0, 0] /= 1000  # so that the first head has the highest z, for all that it gives the key next to nothing
    for head, part in enumerate((0.005, 0.3, 0.1, 0.2)):
        quiet[0, head, answer.key.first : answer.key.stop] = part / (answer.key.stop - answer.key.first)
    ranked = dataclasses.replace(answer, maps={"base": answer.maps["base"]._replace(phrase=quiet)})
    z = ranked.heads["base"].z[0]
    assert z.argmax() == 0
    assert [head for _, head in ranked.ranking] == [*sorted((1, 2, 3), key=lambda head: -z[head]), 0]


@pytest.mark.parametrize(
    ("query", "key", "said"),
    [
        ("town council", "fog", "exchange the two, or give a later phrase"),
        ("Eggville", "mayor", 'give --query "Eggville#2"'),
        ("council of", "town council", "stands before the end of --key"),
        ("town council", "council", "the two overlap: give a later phrase"),
        ("n", "ow", 'give --query "n#2"'),  # both are parts of one token
        ("eggville", "town", 'nearest are "Eggville"'),
        ("Eggville", "Town", '--key "Town"'),
    ],
)
def test_phrases_in_the_wrong_order_or_not_there_are_told(base, tokenizer, query, key, said):
    with pytest.raises(OnionError) as refused:
        attend(base, tokenizer, TEXT, query, key)
    assert said in str(refused.value)


def test_a_query_beyond_the_models_context_is_refused_and_text_after_it_is_not(base, tokenizer):
    long = " egg" * 600
    with pytest.raises(OnionError, match="model sees 512"):
        attend(base, tokenizer, "The town" + long + " ended", "ended", "town")
    assert attend(base, tokenizer, "The town ended" + long, "ended", "town").query.stop < 20


def test_a_model_that_tells_no_attention_is_refused(tokenizer, tiny_base):
    deaf = load_model(str(tiny_base), "none", torch.device("cpu"))
    deaf.model.layers = torch.nn.ModuleList(torch.nn.Sequential() for _ in range(0))
    with pytest.raises(OnionError, match="tell no attention"):
        attend(deaf, tokenizer, TEXT, "Eggville#2", "town council")


def peak_growth(action):
    """Bytes by which this process's memory grew at most."""
    Path("/proc/self/clear_refs").write_text("5")  # begins the high-water mark anew
    kilobytes = re.compile(r"VmHWM:\s+(\d+)")
    before = int(kilobytes.search(Path("/proc/self/status").read_text())[1])
    action()
    return 1024 * (int(kilobytes.search(Path("/proc/self/status").read_text())[1]) - before)


def test_only_the_rows_that_are_asked_for_are_kept(tokenizer):
    config = LlamaConfig(
        vocab_size=600, hidden_size=64, intermediate_size=64, num_hidden_layers=16, num_attention_heads=16
    )
    model = LlamaForCausalLM(config).eval()
    text = "The town" + " egg" * 350 + " ended"
    attend(model, tokenizer, "The town ended", "ended", "town")  # whatever is loaded at the first use
    answers = []
    growth = peak_growth(lambda: answers.append(attend(model, tokenizer, text, "ended", "town")))
    tokens = answers[0].query.stop
    assert tokens > 1400
    one_layer = 4 * 16 * tokens**2
    assert growth < 5 * one_layer  # all sixteen would be sixteen


def test_adapters_trained_on_two_ranks_are_looked_into(flags, shell, run, tmp_path):
    done = shell(flags("fit", "--trainer.max_steps", "2", "--samples.count", "0", *ranks(2)))
    assert done.returncode == 0, done.stderr
    run("attend", "--ckpt_path", str(tmp_path / "run/last.ckpt"), "--text", TEXT, *ASK, "--output", str(tmp_path / "a"))
    figures = json.loads((tmp_path / "a/attention.json").read_text())
    assert set(figures["systems"]) == {"base", "tuned"}
    assert any(np.ravel(figures["tuned_minus_base"]["key"]) != 0)


@pytest.fixture
def attended(run, tmp_path):
    """Runs the command on the base model; returns the figures and the page."""

    def command(*words):
        folder = tmp_path / "answer"
        run("attend", *words, "--output", str(folder), "--overwrite", "true")
        assert (folder / "attention.png").read_bytes().startswith(b"\x89PNG")
        return json.loads((folder / "attention.json").read_text()), (folder / "attention.html").read_text()

    return command


def test_without_a_checkpoint_the_base_model_alone_is_shown(attended, capsys):
    figures, _ = attended("--text", TEXT, *ASK)
    assert list(figures["systems"]) == ["base"]
    assert "tuned_minus_base" not in figures
    assert figures["query"] | {"first": 0, "stop": 0} == {
        "text": "Eggville",
        "start": TEXT.rindex("Eggville"),
        "end": TEXT.rindex("Eggville") + 8,
        "first": 0,
        "stop": 0,
    }
    assert np.shape(figures["systems"]["base"]["key"]) == (2, 4)
    assert set(figures["systems"]["base"]) == {"key", "first_token", "control_mean", "control_std", "z", "rollout"}
    assert len(figures["ranking"]) == 8
    told = capsys.readouterr().err
    assert "“Eggville” gives to “town council”" in told
    assert "attention.html" in told


def test_a_config_for_eight_gpus_does_on_a_machine_without_one(attended):
    gpus = ("--trainer.accelerator", "gpu", "--trainer.devices", "8", "--trainer.strategy", "ddp")
    figures, _ = attended("--text", TEXT, *ASK, *gpus, "--trainer.precision", "16-mixed")
    assert figures["checks"]["base"]["future"] == 0.0


def test_a_text_file_and_a_written_article_are_looked_into(attended, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\ufeff" + TEXT + "\n", encoding="utf-8")
    figures, _ = attended("--text_file", str(file), *ASK)
    assert figures["text"] == TEXT
    figures, _ = attended("--headline", "Egg Declares War", "--query", "Article", "--key", "Egg Declares")
    assert figures["text"].startswith("### Headline: Egg Declares War\n### Article:\n")
    assert len(figures["text"]) > len("### Headline: Egg Declares War\n### Article:\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one of them (none is given)"),
        (("--text", TEXT, "--headline", "Egg"), "--text and --headline are given"),
        (("--text_file", "/nowhere/text.txt"), "cannot be read (No such file or directory)"),
        (("--headline", "  "), "--headline: is empty"),
        (("--text", ""), "--text: is empty"),
        (("--text", "caf\udce9"), "--text: holds bytes that are not UTF-8"),
        (("--text_file", "~nobody-here/text.txt"), "cannot be read"),
        (("--text", TEXT, "--output", "~nobody-here/a"), "--output ~nobody-here/a: cannot be written"),
        (("--text", TEXT, "--output", "a" * 300), "cannot be written (File name too long)"),
    ],
)
def test_not_exactly_one_text_is_refused(refused, words, said):
    assert said in refused("attend", *words, *ASK)


def test_an_earlier_answer_is_not_replaced_unasked(run, refused, tmp_path):
    folder = str(tmp_path / "answer")
    run("attend", "--text", TEXT, *ASK, "--output", folder)
    assert "holds an earlier attention.html" in refused("attend", "--text", TEXT, *ASK, "--output", folder)


def test_a_folder_in_the_place_of_a_file_is_told_before_anything_is_written(refused, tmp_path):
    (tmp_path / "answer" / "attention.json").mkdir(parents=True)
    words = ("--text", TEXT, *ASK, "--output", str(tmp_path / "answer"), "--overwrite", "true")
    assert "its attention.json is a folder" in refused("attend", *words)
    assert [file.name for file in (tmp_path / "answer").iterdir()] == ["attention.json"]


def test_attention_that_is_not_finite_is_refused(tokenizer, tiny_base):
    broken = load_model(str(tiny_base), "none", torch.device("cpu"))
    with torch.no_grad():
        broken.model.layers[1].self_attn.q_proj.weight[0, 0] = math.inf
    with pytest.raises(OnionError, match=r"attention cannot be told \(rows sum to 1 within nan"):
        attend(broken, tokenizer, TEXT, "Eggville#2", "town council")


def test_a_command_without_query_says_which_flag_is_missing(refused):
    assert "query" in refused("attend", "--text", TEXT, "--key", "egg")


def test_attend_is_listed_in_the_help(shell):
    told = shell(["--help"]).stdout
    assert re.search(r"attend\s+Shows how much the tokens of one phrase attend", told)


def test_wandb_gets_page_and_picture(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = json.dumps(
        {
            "class_path": "lightning.pytorch.loggers.WandbLogger",
            "init_args": {"offline": True, "save_dir": str(tmp_path)},
        }
    )
    run("attend", "--text", TEXT, *ASK, "--output", str(tmp_path / "a"), "--trainer.logger", logger)
    media = [file.name for file in (tmp_path / "wandb").rglob("*") if file.is_file() and "attention" in str(file)]
    assert any(name.endswith(".html") for name in media)
    assert any(name.endswith(".png") for name in media)


def test_the_page_holds_what_the_maps_hold(base, tokenizer):
    import base64
    import zlib

    answer = attend(base, tokenizer, TEXT, "Eggville#2", "town council")
    data = page_data(answer)
    packed = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"])), np.uint8)
    maps = packed.reshape(1, data["rows"], 2 + data["layers"] + len(data["kept"]), data["width"])
    place = data["kept"].index(1 * 4 + 3)
    wanted = answer.maps["base"].phrase[1, 3]
    np.testing.assert_allclose((maps[0, 0, 2 + 2 + place] / 255) ** 2, wanted, atol=0.004)
    first, most = data["rollout"]["base"][2]
    rollout = answer.maps["base"].rollout[1]
    np.testing.assert_allclose((maps[0, 2, 0, 1:] / 255) ** 2 * most, rollout[1:], atol=0.004 * most)
    assert (first, most) == (rollout[0], rollout[1:].max())
    assert "".join(before + word for before, word in data["pieces"][1:]).strip() == TEXT


def test_the_page_of_a_long_text_in_a_large_model_stays_under_5_mb(base, tokenizer):
    layers, heads, tokens = 32, 32, 1500
    answer = attend(base, tokenizer, "The town" + " egg" * 100 + " ended", "ended", "town")
    noise = torch.rand(layers, heads, tokens)  # nothing compresses worse
    maps = answer.maps["base"]._replace(phrase=noise, each=None, rollout=torch.rand(1, tokens))
    large = type(answer)(**{**vars(answer), "maps": {"base": maps, "tuned": maps}})
    assert len(render_attention(large)) < 5e6
    data = page_data(large)
    assert len(data["kept"]) < layers * heads  # the worst is left out, and told
    assert set(data["kept"]) == {a * heads + b for a, b in large.ranking[: len(data["kept"])]}


def test_markup_in_a_text_stays_text(base, tokenizer):
    text = "The town <script>alert(1)</script> met </script> & ended"
    page = render_attention(attend(base, tokenizer, text, "ended", "<script>alert(1)"))
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_an_answer_shows_itself_in_a_notebook(base, tokenizer):
    shown = attend(base, tokenizer, TEXT, "Eggville#2", "town council")._repr_html_()
    assert shown.startswith("<iframe sandbox=")
    assert shown.count("<") == 2  # the page is an attribute's text
    assert 'srcdoc="&lt;!doctype html&gt;' in shown


def test_the_picture_shows_what_its_font_has_not_as_boxes(base, tokenizer):
    text = "The town $of$ 🥚 met مجلس and ended"
    picture = plot_attention(attend(base, tokenizer, text, "ended", "🥚"))
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "told", "kept"),
    [
        (0.43649999, "43.6%", 0.4365),
        (0.00042, "0.04%", 0.00042),
        (7.654321e-07, "0.00008%", 7.65432e-07),
        (0.0, "0.0%", 0.0),
    ],
)
def test_a_small_share_keeps_its_digits(value, told, kept):
    assert share(value) == told
    assert rounded(np.array([value, np.nan])) == [kept, None]


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_clicked_and_typed_through_without_a_request_or_a_complaint(tuned, tmp_path, dark):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    answer = attend(tuned.model, tuned.tokenizer, f"{TEXT} <script>document.title='x'</script> 🥚", *ASK[1::2])
    file = tmp_path / "attention.html"
    file.write_text(render_attention(answer), encoding="utf-8")
    with chromium(dark=dark) as page:
        page.get(file.as_uri())
        WebDriverWait(page, 20).until(lambda _: page.execute_script("return document.body.dataset.ready"))

        def says():
            return page.find_element("id", "says").text

        def choose(name, value):
            Select(page.find_element("id", name)).select_by_value(value)

        def points(value):  # as the page writes them
            return f"{100 * value:.{2 if abs(value) < 0.0995 else 1}f}%"

        assert answer.text.strip() == page.find_element("id", "text").text.replace("<s>", "", 1).strip()
        cells = page.find_elements("css selector", ".cell")
        assert len(cells) == 2 * 5
        cells[5 + 1 + 2].click()  # layer 1, head 2
        key = answer.heads["tuned"].key[1, 2]
        assert says().startswith(f"Layer 1, head 2: {points(key)} to the key")
        ActionChains(page).send_keys(Keys.ARROW_UP, Keys.ARROW_RIGHT).perform()
        assert says().startswith(f"Layer 0, head 3: {points(answer.heads['tuned'].key[0, 3])} to the key")
        assert page.switch_to.active_element.get_attribute("aria-selected") == "true"
        choose("system", "base")
        assert points(answer.heads["base"].key[0, 3]) in says()
        choose("system", "difference")
        change = float(answer.heads["tuned"].key[0, 3] - answer.heads["base"].key[0, 3])
        assert ("−" if change < 0 else "+") + points(abs(change)) in says()
        choose("system", "tuned")
        choose("row", "2")
        strongest = page.find_element("css selector", "#most td:nth-child(2)").text
        assert int(strongest) == 1 + int(answer.maps["tuned"].each[0, 3, 1, 1:].argmax())
        choose("layer", "rollout")
        assert says().startswith("Rollout through all layers")
        choose("measure", "z")
        for token in (answer.key.first, len(answer.tokens) - 1):
            place = page.find_element("css selector", f'[data-at="{token}"]')
            ActionChains(page).move_to_element(place).perform()
            assert says().startswith("After the query" if token >= answer.query.stop else "“")
        assert "Eggville" in page.title
        assert requests(page) == [file.as_uri()]
        assert complaints(page) == []
        assert len(screenshot(page, tmp_path / "page.png")) > 10_000
