"""Eureka's JSON: from bytes to an instance, and from instances to bytes."""

from collections.abc import Iterable
from typing import Any

import msgspec

from netd.registry.eureka.instances import Instance, Malformed
from netd.registry.eureka.objects import compact, from_object, to_object

_encode = msgspec.json.Encoder().encode


def read_instance(data: bytes) -> Instance:
    """Raises `Malformed`."""
    return from_object(read(data))


def read(data: bytes) -> Any:
    """Any JSON. Raises `Malformed`."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error}") from None


def write_instance(instance: Instance, action: str, *, reduced: bool = False) -> bytes:
    """The instance without the name that it has in what is around it."""
    fields = to_object(instance, action)
    return _encode(compact(fields) if reduced else fields)


def one_instance(written: bytes) -> bytes:
    return b'{"instance":%s}' % written


def application(name: str, written: Iterable[bytes]) -> bytes:
    """The application without the name that it has in what is around it."""
    return b'{"name":%s,"instance":[%s]}' % (_encode(name), b",".join(written))


def one_application(written: bytes) -> bytes:
    return b'{"application":%s}' % written


def applications(version: str, hashcode: str, written: Iterable[bytes]) -> bytes:
    return b'{"applications":{"versions__delta":%s,"apps__hashcode":%s,"application":[%s]}}' % (
        _encode(version),
        _encode(hashcode),
        b",".join(written),
    )
