"""Addresses of networks that span hosts: who owns which, and how hosts get more."""

from netd.engine.blocks.blocks import Blocks

__all__ = ["Blocks"]
