"""The `ferrite` command: starts each process of the system and offers sub-commands for people.

ferrite core apiserver --config /etc/ferrite/core-apiserver.yaml
ferrite dev up
"""

from __future__ import annotations

import sys
from importlib import import_module

# `ferrite SERVICE PROCESS ...` runs MODULE.main([...]); a service's libraries are imported only when it is started.
PROCESSES = {
    ("core", "apiserver"): "services.core.apiserver.__main__",
    ("core", "controllers"): "services.core.controllers.__main__",
    ("core", "machinepoollet"): "services.core.poollets.machine.__main__",
    ("core", "volumepoollet"): "services.core.poollets.volume.__main__",
    ("net", "apiserver"): "services.net.apiserver.__main__",
    ("net", "apinetlet"): "services.net.apinetlet.__main__",
    ("net", "metalnetlet"): "services.net.metalnetlet.__main__",
    ("metalnet", "apiserver"): "services.metalnet.apiserver.__main__",
    ("metalnet", "agent"): "services.metalnet.agent.__main__",
}

# Services of one process, or whose own command line has sub-commands: `ferrite SERVICE ...` runs MODULE.main([...]).
COMMANDS = {
    "dpservice": "services.dpservice.__main__",
    "metalbond": "services.metalbond.__main__",
    "libvirt-provider": "services.libvirt_provider.__main__",
    "ceph-provider": "services.ceph_provider.__main__",
}


def main() -> None:
    """Entry point: a service's process if the first words name one, else the commands for people."""
    # What the commands for people need (a terminal library, netlink, Ceph) must not slow down the start of a service.
    words = sys.argv[1:]
    if tuple(words[:2]) in PROCESSES:
        import_module(PROCESSES[words[0], words[1]]).main(words[2:])
    elif words and words[0] in COMMANDS:
        import_module(COMMANDS[words[0]]).main(words[1:])
    else:
        import_module("ferrite.cli.people").app()


if __name__ == "__main__":
    main()
