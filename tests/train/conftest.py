"""What the tests of the loop share: a log without TensorBoard, and a run that nothing interrupted."""

import sys

import pytest

from tests.train.tiny import ValData, train


@pytest.fixture(scope="module", autouse=True)
def _no_tensorboard():
    """It takes seconds to import and has its own test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The uninterrupted run's result."""
    return train(tmp_path_factory.mktemp("straight"), val_data=ValData())
