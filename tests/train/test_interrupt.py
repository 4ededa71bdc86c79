"""SIGTERM and Ctrl-C."""

import os
import queue
import signal
import threading

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


def test_a_signal_is_answered_at_once_and_once():
    """Someone who waits for a long evaluation should know that the wish has come."""
    said = queue.Queue()
    with interrupts(said.put):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert said.get(timeout=30) == "SIGUSR1: stops after this step, or after the evaluation that runs"
    assert said.empty()


def test_a_later_second_ctrl_c_stops_at_once_and_nothing_else_does(monkeypatch):
    """A scheduler may repeat its signal."""
    monkeypatch.setattr(interrupt, "AGAIN_S", -1.0)
    with interrupts() as wish:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert wish


def test_outside_the_main_thread_nothing_changes():
    before, found = signal.getsignal(signal.SIGTERM), []

    def run():
        with interrupts() as wish:
            found.append((bool(wish), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, True)]
