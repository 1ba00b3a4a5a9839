"""Words that others have chosen, on their way to somebody's eyes."""


def clean(value: str) -> str:
    """Escape what does not print, so that no name or label can steer what shows it."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
