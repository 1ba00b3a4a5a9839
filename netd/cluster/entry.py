"""By which key or token this node enters a cluster, according to its configuration."""

import logging
import shlex
from pathlib import Path

from netd.cluster import files, secret
from netd.cluster.addresses import is_loopback, text
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ANYWHERE, ClusterSettings
from netd.cluster.tokens import TEXT_MAX_CHARS, JoinToken
from netd.model.errors import Invalid, Unavailable

log = logging.getLogger(__name__)


def find(settings: ClusterSettings) -> tuple[ClusterSecret | None, JoinToken | None]:
    """The cluster's key, or the token that will bring it, or neither: the node is on its own.

    Makes the state folder. Raises `Invalid` for what is wrong in the configuration,
    `Unavailable` for a damaged file of the state folder.
    """
    make_folder(settings.directory)
    token = None if settings.token_file is None else _read_token(settings.token_file)
    stored = secret.stored(settings.directory)
    if settings.key_file is not None:
        known = secret.load(settings.key_file)
        if stored is not None and stored.cluster_id != known.cluster_id:
            log.warning(
                "the cluster is that of %s, not the one that a token once led to", settings.key_file
            )
        return known, None
    if stored is not None:
        if token is not None and token.cluster_id != stored.cluster_id:
            path = settings.directory / secret.FILE_NAME
            raise Invalid(
                f"{settings.token_file} leads to another cluster than this host belongs to; to "
                f"change over: rm {shlex.quote(str(path))}"
            )
        return stored, None
    if token is not None:
        return None, token
    if settings.asks_for_cluster:
        return open_to_all(settings), None
    return None, None


def open_to_all(settings: ClusterSettings) -> ClusterSecret:
    """What stands for a key where there is none. Raises `Invalid` where that is dangerous."""
    bind = settings.bind or ANYWHERE
    if not is_loopback(bind[0]) and not settings.insecure:
        raise Invalid(
            f"without a key, everybody who reaches {text(bind)} could enter the cluster and change "
            "its networks: give the same key file to all hosts with --cluster-key FILE (`netctl "
            "key generate` prints a key), or bind to loopback, or allow it with cluster.insecure"
        )
    return ClusterSecret.open_to_all()


def make_folder(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"state folder {directory}: {error.strerror}") from None


def _read_token(path: Path) -> JoinToken:
    try:
        written = files.read_secret(path, TEXT_MAX_CHARS + 2)
    except OSError as error:
        raise Invalid(f"join token {path} cannot be read: {error.strerror or error}") from None
    try:
        return JoinToken.parse(written.decode("ascii"))
    except (Invalid, UnicodeDecodeError) as error:
        detail = error.detail if isinstance(error, Invalid) else "it is not ASCII"
        raise Invalid(f"{path}: {detail}") from None
