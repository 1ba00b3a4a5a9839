"""Who gets the page, and what a browser may do with it."""

from typing import Final

from netd.registry.http.call import Call, Failure

# 'self' for forms: the search is one, which works without a script.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
UNCACHED: Final = {"Cache-Control": "no-store"}
CACHED: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def admit(call: Call, *, enabled: bool) -> None:
    """Raises `Failure` for whom the page is not."""
    if not enabled:
        raise Failure(404, "The page is switched off: page.enabled in netd's configuration")
    if not call.caller.is_host:
        raise Failure(403, "The page is for this host itself")
