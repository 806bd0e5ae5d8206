"""What `evaluate` prints."""

from onion_lightning.evaluation.metrics import compute_metrics
from onion_lightning.evaluation.terminal import show_evaluation
from tests.evaluation.conftest import sample, settings, with_best_of

SAMPLES = [sample(10, 9, 6, 4, 10), sample(30, 27, 24, 16, 50), sample(9, 8, 7, 5, 12)]


def printed(capsys, folder, **more):
    show_evaluation(compute_metrics(SAMPLES, settings(**more), seed=1), folder)
    return capsys.readouterr().err


def test_main_metrics_differences_and_the_path_of_the_report_are_printed(capsys, tmp_path):
    folder = tmp_path / "[a]"  # not markup
    lines = printed(capsys, folder).splitlines()
    (loss,) = (line for line in lines if "Loss per token" in line)
    assert loss.split()[-3:] == ["1.960", "1.760", "1.480"]
    assert any(line.startswith("  loss, tuned minus base: -0.480 (95% interval -") for line in lines)
    assert any(line.startswith("  loss, tuned minus few-shot: -0.280 (95% interval -") for line in lines)
    assert lines[-1] == f"Report: {folder / 'report.html'}"


def test_a_note_says_when_headlines_or_examples_are_fewer_than_expected(capsys, tmp_path):
    few = "evaluated all 3 test headlines; the default is 32 (--count)"
    cut = "for some headlines, only 1 of 3 few-shot examples fit (--shots)"
    assert few in printed(capsys, tmp_path)
    assert few not in printed(capsys, tmp_path, n=3)
    assert cut not in printed(capsys, tmp_path)
    assert cut in printed(capsys, tmp_path, shots_least=1)


def test_the_best_of_several_has_a_column_a_time_and_a_difference(capsys, tmp_path):
    samples = [with_best_of(one, 1, 2) for one in SAMPLES]
    show_evaluation(compute_metrics(samples, settings(best_of=8), seed=1), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.split()[-4:] == ["Tuned", "Best", "of", "8"] for line in lines)
    (seconds,) = (line for line in lines if "Seconds per article" in line)
    assert seconds.split()[-2:] == ["1.0", "4.0"]
    assert "  mean reciprocal rank, best of 8 minus tuned: +0.50 (95% interval +0.50 to +0.50)" in lines
