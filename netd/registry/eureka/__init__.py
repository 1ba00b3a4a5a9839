"""Eureka's REST API on the catalogue of services."""
