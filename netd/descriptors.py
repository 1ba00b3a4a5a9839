"""How many descriptors a process may have."""

import resource


def take_all_descriptors() -> None:
    """Raise the limit to what is allowed: it is low for the sake of select(), not used here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
