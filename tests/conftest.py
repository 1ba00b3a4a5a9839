"""For tests of all kinds."""

from hypothesis import HealthCheck, settings

# How long a machine takes over data and over a test of it says nothing about the code.
settings.register_profile("netd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netd")
