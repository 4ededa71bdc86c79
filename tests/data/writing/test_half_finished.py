"""The shards of a half-finished conversion: what is whole, and whose they are."""

import pytest

from blocks.data import open_shards
from blocks.data.writing import journal
from tests.data.writing.interruption import interrupted, write
from tests.data.writing.made import files, items


@pytest.mark.parametrize("pattern", ["", "train-*.tar", "train-000000.tar"])
def test_half_a_data_set_is_not_opened(tmp_path, pattern):
    interrupted(items(20), tmp_path)
    with pytest.raises(ValueError, match=r"half-finished conversion .* goes on"):
        open_shards(tmp_path / pattern)
    write(items(20), tmp_path)
    assert len(open_shards(tmp_path)) == 20


@pytest.mark.parametrize("lost", ["torn", "missing", "short"])
def test_a_shard_that_is_not_whole_is_written_again(tmp_path, lost):
    write(items(20), tmp_path / "whole")
    interrupted(items(20), tmp_path / "out")
    shard, lines = tmp_path / "out" / "train-000001.tar", tmp_path / "out" / journal.NAME
    if lost == "torn":
        lines.write_bytes(lines.read_bytes()[:-20])
    else:
        shard.write_bytes(b"short")
    if lost == "missing":
        shard.unlink()
    write(items(20), tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_shards_in_a_half_finished_folder_are_not_written_over(tmp_path):
    interrupted(items(20), tmp_path)
    (tmp_path / "train-000004.tar").write_bytes(b"of somebody else")
    with pytest.raises(ValueError, match=r"holds other shards \(train-000004.tar, 1 files\); move them elsewhere"):
        write(items(20), tmp_path, restart=True)
