"""Ogg files with a serial number that is not random, so that the same audio is the same file."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

# Capture pattern, version, flags, granule position, serial, page number, checksum, segment count.
PAGE = struct.Struct("<4sBBqIIIB")
SERIAL_AT, CHECKSUM_AT = 14, 22
SERIAL = 1
# Each byte with its bits in reverse order: Ogg's CRC is zlib's with the most significant bit first.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def fix_serial(file: BinaryIO) -> None:
    """Give every page of a file with one stream the serial number 1, in place."""
    file.seek(0)
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
    """Ogg's CRC, which begins with zeros and ends without a complement, unlike zlib's."""
    value = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
