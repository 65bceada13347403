"""The core API server: kinds of *.ironcore.dev and the built-in ones, RBAC, namespaces. `__main__.py` wires it."""
