"""A signal becomes an exception once; the way out is not interrupted again, and a job without one leaves no trace."""

import os
import signal

import pytest

from jobs.interrupts import SIGNALS, Interrupted, raise_on_signals


@pytest.fixture
def handlers():
    """Those of this process, which are put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_raises_once(handlers, number, exit_code):
    with pytest.raises(Interrupted, match=number.name) as caught, raise_on_signals():
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == exit_code and not isinstance(caught.value, Exception)
    os.kill(os.getpid(), number)


def test_without_a_signal_the_handlers_are_put_back(handlers):
    with raise_on_signals():
        assert all(signal.getsignal(number) is not handlers[number] for number in SIGNALS)
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers
