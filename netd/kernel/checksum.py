"""The checksum of the Internet protocols."""

import struct


def internet_checksum(data: bytes) -> int:
    """RFC 1071, as it is put into a header whose checksum was 0."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    return int(~(total + (total >> 16)) & 0xFFFF)
