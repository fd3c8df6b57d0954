"""A signal becomes an exception once; the way out is not interrupted again."""

import os
import signal

import pytest

from jobs.interrupts import Interrupted, raise_on_signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_raises_once(number, exit_code):
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        raise_on_signals()
        with pytest.raises(Interrupted, match=number.name) as caught:
            os.kill(os.getpid(), number)
        assert caught.value.exit_code == exit_code and not isinstance(caught.value, Exception)
        os.kill(os.getpid(), number)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
