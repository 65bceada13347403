"""The gRPC door: each kind's typed service and ferrite.api.v1.Resources, answered by one generic handler.

`methods.py` finds the services of the kinds in their descriptors, `handler.py` answers, `errors.py` encodes refusals.
"""
