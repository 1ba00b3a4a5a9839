"""Records as they lie in the database: JSON, read leniently.

A newer netd of the same schema may have stored fields that this one does not know. Where a
type ignores unknown fields that is no matter; what callers send (`AttachRequest` and its
parts) refuses them, rightly, and is stored as it came. So what does not decode as it is,
is pruned to the known fields and tried again. A known field with an unknown value stays an
error: to drop or guess it would change what the containers have.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

Record = TypeVar("Record", bound=msgspec.Struct)

encode = msgspec.json.Encoder().encode


def decode(body: bytes, kind: type[Record]) -> Record:
    """Read a stored record. Raises `ValueError` when it cannot be understood."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        known = _prune(msgspec.json.decode(body), inspect.type_info(kind))
        return msgspec.convert(known, kind)


def _prune(value: Any, kind: inspect.Type) -> Any:
    """`value` without the fields that `kind` does not have, at any depth."""
    match kind:
        case inspect.StructType() if isinstance(value, dict):
            kinds = {field.encode_name: field.type for field in kind.fields}
            return {key: _prune(item, kinds[key]) for key, item in value.items() if key in kinds}
        case inspect.VarTupleType() | inspect.ListType() if isinstance(value, list):
            return [_prune(item, kind.item_type) for item in value]
        case inspect.UnionType():
            for member in kind.types:
                value = _prune(value, member)
    return value
