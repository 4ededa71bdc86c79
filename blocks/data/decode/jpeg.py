"""The header of a JPEG, and whether all decoders read it alike. Markers are those of ITU T.81, table B.1."""

import re
from collections.abc import Iterator

START, END, SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
SEQUENTIAL, FRAMES = (0xC0, 0xC1), (0xC0, 0xC1, 0xC2)  # Huffman coded; C2 is progressive
KNOWN = frozenset({*FRAMES, 0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0), SCAN})  # tables, comments, applications'
MARKER = re.compile(rb"\xff[^\0\xd0-\xd7]")  # in a scan; neither an escaped FF nor a restart


def size_in_header(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG of 8 bits, grey or of three colours; None for all else."""
    for marker, at in _segments(data):
        if marker in FRAMES:
            bits, height, width, components = data[at], data[at + 1 : at + 3], data[at + 3 : at + 5], data[at + 5]
            size = int.from_bytes(width), int.from_bytes(height)
            return size if bits == 8 and components in (1, 3) and min(size) else None
    return None


def is_plain(data: bytes) -> bool:
    """Whether it has such a size, and one whole scan in which no other marker stands.

    Who decodes a box does not see what is below it. A file that was cut off or holds something else there is refused
    by Pillow, so it is left to it; what may still be wrong in a scan like this no decoder refuses. Progressive files
    have many scans, and of those that miss some every decoder makes something else.
    """
    markers = dict(_segments(data))
    if SCAN not in markers or not data.endswith(END) or markers.keys().isdisjoint(SEQUENTIAL):
        return False
    found = MARKER.search(data, markers[SCAN])
    return found is not None and found.end() == len(data) and size_in_header(data) is not None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The header's markers up to the scan, each with the place of what it holds; ends where another marker comes."""
    at, last = len(START), len(data) - 10 if data.startswith(START) else 0
    while at < last and data[at] == 0xFF and data[at + 1] in KNOWN:
        yield data[at + 1], at + 4
        if data[at + 1] == SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
