"""Ports: they join lines and connections."""
