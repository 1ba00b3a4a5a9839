"""The token that may do everything in Consul's API, from a file of the administrator's."""

import re
from pathlib import Path
from typing import Final

from netd.cluster.files import read_secret
from netd.model.consul_token import SECRET_MAX, SECRET_MIN, hash_of
from netd.model.errors import Invalid

_SECRET: Final = re.compile(rf"[!-~]{{{SECRET_MIN},{SECRET_MAX}}}\Z")


def load(file: str) -> str:
    """What is kept of the token in `file`; "" for no file. Raises `Invalid`."""
    if not file:
        return ""
    try:
        text = read_secret(Path(file), SECRET_MAX + 2).decode("ascii", "replace").strip()
    except OSError as error:
        detail = f"{file} cannot be read: {error.strerror or error}"
        raise Invalid(detail, field="consul.acl_token_file") from None
    if not _SECRET.match(text):
        raise Invalid(
            f"{file} has no token: it has one line of {SECRET_MIN} to {SECRET_MAX} characters, "
            "as `uuidgen` prints it",
            field="consul.acl_token_file",
        )
    return hash_of(text)
