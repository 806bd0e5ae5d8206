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


def test_a_second_deferred_signal_ends_the_process_with_its_status(monkeypatch):
    statuses = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    with StopSignals() as signals:
        signals.deferred = True
        signal.raise_signal(signal.SIGINT)
        assert statuses == []
        signal.raise_signal(signal.SIGTERM)
    assert statuses == [128 + signal.SIGTERM]


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
