"""Durable intent."""
