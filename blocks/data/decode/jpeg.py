"""The header of a JPEG, and whether all decoders read it alike."""

START, END = b"\xff\xd8", b"\xff\xd9"
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # Huffman coded, ITU T.81, table B.1
TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # what may stand before a frame, APPn among it


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a whole JPEG of 8 bits, grey or of three colours; None for all else, which Pillow judges.

    Whole: the end is marked. A decoder of a box would not miss what is cut off below it, and others fill it with grey.
    """
    if not (data.startswith(START) and data.endswith(END)):
        return None
    at, last = len(START), len(data) - 10
    while at < last and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in (BASELINE, EXTENDED, PROGRESSIVE):
            bits, components = data[at + 4], data[at + 9]
            height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            return (width, height) if bits == 8 and components in (1, 3) and width and height else None
        if marker not in TABLES:
            return None
        at += 2 + length
    return None
