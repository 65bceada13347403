"""Ferrite's services: one folder each, and the two libraries below them. Layers point one way (see pyproject.toml)."""
