"""What comes before a capture, on streams that stand for a GPU's."""

from contextlib import contextmanager

import pytest
import torch

from blocks.train.captured import CudaGraphs


class Stream:
    """Notes whom it waits for."""

    made: list["Stream"]

    def __init__(self, device=None):
        self.device, self.waited = device, []
        Stream.made.append(self)

    def wait_stream(self, other):
        self.waited.append(other)


@pytest.fixture
def main(monkeypatch):
    """The main stream."""
    Stream.made = []
    found = Stream(torch.device("cuda:1"))

    @contextmanager
    def entered(stream):
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: found)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    return found


def test_all_warm_steps_share_one_side_stream_of_the_main_streams_gpu(main):
    """Memory that was used in one stream is not used again in another: each would keep a step's activations."""
    graphs = CudaGraphs()
    assert [graphs.warm(lambda n=n: n) for n in range(3)] == [0, 1, 2]
    assert [s.device for s in Stream.made] == [torch.device("cuda:1")] * 2
    side = Stream.made[1]
    assert side.waited == [main] * 3
    assert main.waited == [side] * 3
