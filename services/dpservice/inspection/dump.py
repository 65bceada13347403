"""`dpservice dump TABLE`: the entries of a table."""

from __future__ import annotations

from services.dpservice.inspection.main import main as inspect


def main(arguments: list[str]) -> None:
    """Raises SystemExit as `inspect` does."""
    inspect(arguments, dump=True)
