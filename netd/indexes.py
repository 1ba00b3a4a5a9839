"""Indexes of what is by what: a key is there only while it has something."""

from collections.abc import Hashable, MutableMapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)
W = TypeVar("W")


def discard(index: MutableMapping[K, set[V]], key: K, value: V) -> None:
    """Take `value` out from under `key`. Raises `KeyError` if the key is not there, unless the
    index makes its keys.
    """
    values = index[key]
    values.discard(value)
    if not values:
        del index[key]


def remove(index: MutableMapping[K, dict[V, W]], key: K, name: V) -> None:
    """Take what is there by `name` out from under `key`. Raises `KeyError` if it is not there."""
    values = index[key]
    del values[name]
    if not values:
        del index[key]
