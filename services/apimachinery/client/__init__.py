"""Clients of API servers: one interface (`interface.py`), a gRPC and a Kubernetes REST transport behind it."""
