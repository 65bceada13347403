"""The host around the data plane: network devices that come and go, their carrier, and the routers on the uplinks."""
