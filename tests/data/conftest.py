"""Every test of data has its own cache folder."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("VITMASON_CACHE_GB", "1")  # on a disk that is nearly full as well
    return folder / "vitmason"
