"""SIGINT and SIGTERM: raised at once, or stored while they are deferred."""

import os
import signal

import pytest

from onion_lightning.cli.signals import StopSignals
from onion_lightning.errors import Interrupted

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def earlier():
    """Installs a handler that records signals, as another program's would, and removes it after the test."""
    received = []

    def record(signum, frame):
        received.append(signum)

    before = {signum: signal.signal(signum, record) for signum in BOTH}
    yield received
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", BOTH)
def test_a_signal_raises_at_once(signum):
    with StopSignals() as signals, pytest.raises(Interrupted) as stopped:
        signal.raise_signal(signum)
    assert stopped.value.signum == signum
    assert signals.received is None


@pytest.mark.parametrize("signum", BOTH)
def test_a_deferred_signal_is_stored(signum):
    with StopSignals() as signals:
        signals.deferred = True
        signal.raise_signal(signum)
        assert signals.received == signum


def test_another_deferred_ctrl_c_ends_the_process_and_a_signal_that_is_passed_on_does_not(monkeypatch):
    statuses, now = [], [0.0]
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with StopSignals() as signals:
        signals.deferred = True
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # by torchrun, which has received it as well
        now[0] = 2.0
        signal.raise_signal(signal.SIGTERM)  # by SLURM, after the signal that warns
        assert statuses == []
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
    assert statuses == [128 + signal.SIGINT]


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_signals_of_slurm_are_handled_in_its_jobs_only(environment, signum):
    environment({})
    with StopSignals():
        assert signal.getsignal(signum) == signal.SIG_DFL
    environment({"SLURM_JOB_ID": "7"})
    with StopSignals() as signals:
        signals.deferred = True
        signal.raise_signal(signum)
        assert signals.received == signum
    assert signal.getsignal(signum) == signal.SIG_DFL


@pytest.mark.parametrize("signum", BOTH)
def test_earlier_handlers_are_restored_also_after_an_interruption(signum, earlier):
    with StopSignals():
        pass
    with pytest.raises(Interrupted), StopSignals():
        signal.raise_signal(signum)
    assert earlier == []
    signal.raise_signal(signum)
    assert earlier == [signum]


def test_the_handler_can_be_installed_again_after_lightning_has_replaced_it():
    with StopSignals() as signals:
        for signum in BOTH:
            signal.signal(signum, signal.SIG_IGN)
        signals.install()
        for signum in BOTH:
            with pytest.raises(Interrupted):
                signal.raise_signal(signum)
