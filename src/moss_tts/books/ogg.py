"""Ogg files with a serial number that is not random, so that the same audio is the same file."""

from __future__ import annotations

import struct
from pathlib import Path

# Capture pattern, version, flags, granule position, serial, page number, checksum, segment count.
PAGE = struct.Struct("<4sBBqIIIB")
SERIAL_AT, CHECKSUM_AT = 14, 22
SERIAL = 1


def _table() -> list[int]:
    """The table of Ogg's CRC: polynomial 0x04c11db7, most significant bit first."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _table()


def fix_serial(path: Path) -> None:
    """Give every page of a file with one stream the serial number 1, in place."""
    with path.open("r+b") as file:
        while header := file.read(PAGE.size):
            at = file.tell() - PAGE.size
            sizes = file.read(header[-1])
            page = bytearray(header + sizes + file.read(sum(sizes)))
            struct.pack_into("<I", page, SERIAL_AT, SERIAL)
            struct.pack_into("<I", page, CHECKSUM_AT, 0)
            struct.pack_into("<I", page, CHECKSUM_AT, _checksum(page))
            file.seek(at)
            file.write(page)


def _checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ byte]
    return value
