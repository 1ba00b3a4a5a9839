"""What there is at a glance, where Eureka servers have a page of their own."""

from html import escape
from typing import Any, Final

from netd.naming.values import Scope
from netd.registry.eureka.view import View

POLICY: Final = "default-src 'none'; style-src 'none'; frame-ancestors 'none'; base-uri 'none'"
ROWS_MAX: Final = 2_000


def summary(view: View, scope: Scope) -> dict[str, Any]:
    """The server's word about itself. netd needs no peers: each host shows what all have."""
    return {
        "generalStats": {"server-uptime": "", "environment": "netd"},
        "applicationStats": {
            "registered-replicas": "",
            "available-replicas": "",
            "unavailable-replicas": "",
        },
        "instanceInfo": {"hostName": view.node, "status": "UP", "instances": _count(view, scope)},
    }


def summary_xml(view: View, scope: Scope) -> bytes:
    return (
        "<com.netflix.eureka.util.StatusInfo><instanceInfo>"
        f"<hostName>{escape(view.node)}</hostName><status>UP</status>"
        f"<instances>{_count(view, scope)}</instances>"
        "</instanceInfo></com.netflix.eureka.util.StatusInfo>"
    ).encode()


def page(view: View, scope: Scope) -> bytes:
    """Instances by application, `ROWS_MAX` of them."""
    rows: list[str] = []
    left_out = 0
    for seen in view.shown(scope):
        instance = seen.instance
        if instance is None:
            continue
        if len(rows) >= ROWS_MAX:
            left_out += 1
            continue
        cells = (
            instance.app,
            instance.instance_id,
            instance.status,
            f"{instance.host_name}:{instance.port.number}",
            seen.service.node,
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = ("Application", "Instance", "Status", "Address", "Host")
    more = f"<p>and {left_out} more</p>" if left_out else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Eureka on {escape(view.node)}</title></head><body>"
        f"<h1>Instances as Eureka's clients of {escape(view.node)} see them</h1><table><thead><tr>"
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}</body></html>"
    ).encode()


def _count(view: View, scope: Scope) -> int:
    return sum(1 for _ in view.shown(scope))
