"""Prints a table's requirements from a pyproject.toml, so that they are installed before the source changes again.

requirements.py FILE build-system | project
"""

import sys
import tomllib
from pathlib import Path

# Extras whose requirements come from PyPI; tests need none of the images.
EXTRAS = ("dpservice", "metalnet", "metalbond", "telemetry", "dev")

tree = tomllib.loads(Path(sys.argv[1]).read_text())
if sys.argv[2] == "build-system":
    found = tree["build-system"]["requires"]
else:
    project = tree["project"]
    found = project["dependencies"] + [line for name in EXTRAS for line in project["optional-dependencies"][name]]
print("\n".join(sorted(set(found))))
