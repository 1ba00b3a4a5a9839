"""Fixtures of the unit tests."""

from tests.unit.engine_fixture import host, new_host

__all__ = ["host", "new_host"]
