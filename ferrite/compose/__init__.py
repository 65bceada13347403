"""The cluster of docker-compose.yml: what its helper containers run, and the check of the whole.

In containers: `setup.py` makes certificates and keys, `uplinks.py` joins network namespaces by veth pairs, `ceph.py` is
a small Ceph. On the host: `check.py` brings the cluster up, uses it, kills parts of it and takes it down; `engine.py`
is an engine for machines without Docker, `units.py` runs the systemd units of deploy/ without systemd. Product code
never imports from here.
"""
