"""Conversions into small shards, and sources that end them early."""

import pytest

from blocks.data.writing import write_dataset


def write(source, folder, **options):
    return write_dataset(source, folder, **{"samples_per_shard": 4, "workers": 0, "progress": False} | options)


def interrupted(source, folder, after=10, **options):
    """Write until the source fails behind so many samples."""

    def failing():
        for number, item in enumerate(source):
            if number == after:
                raise KeyError("out of a source")
            yield item

    with pytest.raises(KeyError) as caught:
        write(failing(), folder, **options)
    return caught.value
