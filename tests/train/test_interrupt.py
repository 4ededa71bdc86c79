"""SIGTERM and Ctrl-C."""

import os
import signal

import pytest

from blocks.train import interrupt
from blocks.train.interrupt import interrupts


def test_a_signal_is_a_wish_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as wish:
        assert not wish
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # torchrun's echo of the same Ctrl-C
        assert wish
    assert signal.getsignal(signal.SIGINT) is before


def test_a_later_second_ctrl_c_stops_at_once(monkeypatch):
    monkeypatch.setattr(interrupt, "AGAIN_S", -1.0)
    with interrupts() as wish:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert wish
