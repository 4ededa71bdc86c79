import pytest

from blocks.report import png, write_report
from tests.report import tiny_runs


@pytest.fixture(scope="session", autouse=True)
def coarse_pictures():
    """A fifth of the dots: drawing takes most of a report's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(png.HOW, "dpi", 30)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tiny_runs.images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def supervised(tmp_path_factory, data):
    """A run's folder."""
    return tiny_runs.write_run(tmp_path_factory.mktemp("runs") / "convit", tiny_runs.convit(), data)


@pytest.fixture(scope="session")
def supervised_page(supervised):
    """Its report."""
    return write_report(supervised, say=lambda text: None)


@pytest.fixture(scope="session")
def swav_run(tmp_path_factory, data):
    """A self-supervised run's folder."""
    return tiny_runs.swav(tmp_path_factory.mktemp("runs") / "swav", data)
