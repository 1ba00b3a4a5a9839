"""All calls: the tables of the modules that answer them, joined.

Dispatch and the OpenAPI document are both made from it.
"""

from typing import Final

from netd.api import (
    cluster,
    description,
    directory,
    endpoints,
    host,
    kv,
    names,
    networks,
    plugins,
    services,
    virtuals,
    ways,
)
from netd.api.routing import AnyRoute

ROUTES: Final[tuple[AnyRoute, ...]] = (
    *networks.ROUTES,
    *endpoints.ROUTES,
    *plugins.ROUTES,
    *services.ROUTES,
    *virtuals.ROUTES,
    *kv.ROUTES,
    *cluster.ROUTES,
    *names.ROUTES,
    *directory.ROUTES,
    *ways.ROUTES,
    *host.ROUTES,
    *description.ROUTES,
)
