"""Who calls and what they may do: identities from client certificates and tokens, RBAC, delegation to another server.

`identity.py` names callers, `authorizer.py` is the question that the pipeline asks; `rbac.py` answers it from stored
roles, `delegated.py` by asking another API server.
"""
