"""What the doctor says of the installed packages."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement
from packaging.version import Version

from .findings import Finding

NEWEST_TESTED = {"dagster": "1.13.28", "sqlmesh": "0.236.4"}
"""The newest versions with which ``make test-newest`` passed; raise them when it passes again."""

_DISTRIBUTION = "dagster-sqlmesh-automation"


def version_findings(installed: Mapping[str, str]) -> Iterator[Finding]:
    """Checks the installed packages.

    Args:
        installed: Versions by name, of what this package requires.
    """
    versions = ", ".join(f"{name} {installed.get(name)}" for name in ("dagster", "sqlmesh"))
    yield Finding(f"versions: {versions}")
    for text in importlib.metadata.requires(_DISTRIBUTION) or ():
        required = Requirement(text)
        if required.name in installed and not _admits(required, installed):
            yield Finding(
                f"{required.name} {installed[required.name]} is not supported",
                f"Install {required.name}{required.specifier}.",
                exit_code=2,
            )
    for name, tested in NEWEST_TESTED.items():
        if Version(installed.get(name, "0")) > Version(tested):
            yield Finding(
                f"{name} {installed[name]} is newer than {tested}, the newest that was tested",
                f"Nothing has to be wrong. Watch the next ticks, or install {name}=={tested}.",
            )


def installed_versions() -> dict[str, str]:
    """Returns the versions of what this package requires, by name."""
    required = [Requirement(text) for text in importlib.metadata.requires(_DISTRIBUTION) or ()]
    names = {requirement.name for requirement in required if requirement.marker is None}
    return {
        name: importlib.metadata.version(name)
        for name in sorted(names)
        if any(importlib.metadata.distributions(name=name))
    }


def _admits(required: Requirement, installed: Mapping[str, str]) -> bool:
    """Returns whether an installed version satisfies a requirement; false if none is there."""
    version = installed.get(required.name)
    return version is not None and required.specifier.contains(version, prereleases=True)
