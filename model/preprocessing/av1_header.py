"""Reads the sizes of a picture from its AV1 sequence headers (AV1 specification, sections 5.3 to 5.5)."""

from collections.abc import Iterator

_SEQUENCE_HEADER = 1
_MAX_UNITS = 1000  # of a picture; a few are usual
_MAX_HEADER = 128  # bytes


def sequence_sizes(data: bytes | memoryview) -> list[tuple[int, int]]:
    """Width and height by each of the sequence headers in ``data``; a picture may be as large as the largest."""
    return [_size(unit) for kind, unit in _units(data) if kind == _SEQUENCE_HEADER]


def _units(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Type and beginning of each unit (OBU) of a picture."""
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            return
        header = data[position]
        position += 2 if header & 4 else 1  # with an extension
        size = len(data) - position
        if header & 2:
            size, position = _leb128(data, position)
        yield header >> 3 & 15, bytes(data[position : position + min(size, _MAX_HEADER)])
        position += size


def _leb128(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for i, byte in enumerate(data[position : position + 8]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, position + i + 1
    return value, len(data)


class _Bits:
    """Reads numbers from bits; behind the end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data.ljust(_MAX_HEADER, b"\0"), "big")
        self._left = 8 * _MAX_HEADER

    def read(self, size: int) -> int:
        self._left -= size
        return self._bits >> max(0, self._left) & ((1 << size) - 1)


def _size(unit: bytes) -> tuple[int, int]:
    bits = _Bits(unit)
    bits.read(4)  # profile, still picture
    if bits.read(1):  # a reduced header
        bits.read(5)
    else:
        _skip_operating_points(bits, delay_bits=_skip_timing(bits))
    across, down = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(across) + 1, bits.read(down) + 1


def _skip_timing(bits: _Bits) -> int:
    """Skip how long frames are shown; returns the number of bits of a buffer's delay, 0 without a decoder model."""
    if not bits.read(1):
        return 0
    bits.read(64)
    if bits.read(1):  # equal intervals, a number in uvlc
        zeros = 0
        while not bits.read(1) and zeros < 32:
            zeros += 1
        bits.read(zeros)
    if not bits.read(1):
        return 0
    delay_bits = bits.read(5) + 1
    bits.read(42)
    return delay_bits


def _skip_operating_points(bits: _Bits, *, delay_bits: int) -> None:
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # the level
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
