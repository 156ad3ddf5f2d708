"""constraints.txt is the lock: every package that any extra brings, directly or not, is pinned."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pinned() -> dict[str, str]:
    """Name → version, for this Python."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                (version,) = pin.specifier
                assert version.operator == "==", line
                assert canonicalize_name(pin.name) not in pins, f"{line}: twice for this Python"
                pins[canonicalize_name(pin.name)] = version.version
    return pins


def _wanted() -> dict[str, str]:
    """Name → installed version, of everything that the extras bring here."""
    extras = PROJECT["optional-dependencies"]
    ours = map(Requirement, sum(extras.values(), PROJECT["dependencies"]))
    todo = [each for each in ours if each.marker is None or each.marker.evaluate()]
    found: dict[str, str] = {}
    done = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name == "tidegate" or str(requirement) in done:
            continue
        done.add(str(requirement))
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        environments = [{"extra": extra} for extra in ["", *requirement.extras]]
        for each in map(Requirement, distribution.requires or []):
            if each.marker is None or any(each.marker.evaluate(e) for e in environments):
                each.marker = None
                todo.append(each)
    return found


def test_every_package_of_every_extra_is_pinned_and_installed_as_pinned() -> None:
    pinned, wanted = _pinned(), _wanted()
    assert {"opentelemetry-sdk", "opentelemetry-semantic-conventions", "psycopg"} <= set(wanted)
    assert {name: version for name, version in wanted.items() if pinned.get(name) != version} == {}


def test_the_extra_of_developers_brings_all_others() -> None:
    extras = PROJECT["optional-dependencies"]
    (ours,) = [each for each in extras["dev"] if each.startswith("tidegate[")]
    assert set(Requirement(ours).extras) == set(extras) - {"dev", "embedded"}
