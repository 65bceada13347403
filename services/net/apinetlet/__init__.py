"""Brings networks and interfaces of the core API to the net API, and their numbers and states back."""
