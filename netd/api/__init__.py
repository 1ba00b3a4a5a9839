"""The Unix-socket API: a thin layer over the engine's use cases."""
