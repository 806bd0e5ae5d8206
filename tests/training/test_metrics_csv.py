"""The metrics file across resumed runs."""

from onion_lightning.training.metrics_csv import MetricsCSV
from tests.conftest import metrics_lines


def test_new_columns_and_rows_are_added_to_an_existing_file(tmp_path):
    first = MetricsCSV(tmp_path)
    first.log_metrics({"a": 1.0}, 0)
    first.log_metrics({"a": 2.0, "b": 3.0}, 1)
    MetricsCSV(tmp_path).log_metrics({"b": 4.0}, 2)
    assert metrics_lines(tmp_path) == ["step,a,b", "0,1.0,", "1,2.0,3.0", "2,,4.0"]


def test_a_resumed_run_drops_the_rows_it_logs_again(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in range(5):
        logger.log_metrics({"a": float(step)}, step)
    again = MetricsCSV(tmp_path)
    again.log_metrics({"a": 30.0}, 3)
    assert metrics_lines(tmp_path) == ["step,a", "0,0.0", "1,1.0", "2,2.0", "3,30.0"]


def test_a_repeated_validation_replaces_only_its_own_row(tmp_path):
    logger = MetricsCSV(tmp_path)
    for metrics, step in (({"a": 1.0}, 0), ({"a": 2.0}, 1), ({"v": 5.0}, 1), ({"a": 3.0}, 2)):
        logger.log_metrics(metrics | {"epoch": 0}, step)
    MetricsCSV(tmp_path).log_metrics({"v": 6.0, "epoch": 0}, 1)
    assert metrics_lines(tmp_path) == ["step,a,epoch,v", "0,1.0,0,", "1,2.0,0,", "1,,0,6.0"]


def test_a_run_resumed_after_its_first_step_has_that_row_once(tmp_path):
    MetricsCSV(tmp_path).log_metrics({"a": 1.0, "epoch": 0}, 0)
    MetricsCSV(tmp_path).log_metrics({"a": 2.0, "epoch": 0}, 0)
    assert metrics_lines(tmp_path) == ["step,a,epoch", "0,2.0,0"]


def test_a_row_that_is_logged_again_unchanged_keeps_its_other_columns(tmp_path):
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": 1.0, "tokens/s": 9.0}, 0)
    logger.log_metrics({"a": 2.0, "tokens/s": 8.0}, 1)
    again = MetricsCSV(tmp_path)
    again.log_metrics({"a": 2.0}, 1)
    again.log_metrics({"a": 3.0}, 2)
    assert metrics_lines(tmp_path) == ["step,a,tokens/s", "0,1.0,9.0", "1,2.0,8.0", "2,3.0,"]
