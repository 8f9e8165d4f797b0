"""Print the lowest versions that setup.cfg promises, `name==version` a line, as pip takes them.

    python tests/lowest_versions.py experiments dev

The arguments are extras. `make test-lowest` installs these versions and runs the suite with them.
"""

import configparser
import re
import sys
from collections.abc import Sequence
from pathlib import Path

SETUP = Path(__file__).parents[1] / "setup.cfg"
REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(\[[\w,]+\])?>=([\w.]+)")


def lowest_versions(text: str, extras: Sequence[str]) -> dict[str, str]:
    """Return the lowest version of everything that a package and some of its extras require.

    text: of setup.cfg

    Raises ValueError for a requirement without a lower bound and for two different bounds.
    """
    config = configparser.ConfigParser()
    config.read_string(text)
    lists = [config["options"]["install_requires"]]
    lists += [config["options.extras_require"][extra] for extra in extras]
    found: dict[str, str] = {}
    for line in "\n".join(lists).splitlines():
        if not line or line.startswith("#"):
            continue
        match = REQUIREMENT.fullmatch(line)
        if match is None:
            raise ValueError(f"setup.cfg: {line!r} is not of the form name>=version")
        name, _, version = match.groups()
        if found.setdefault(name, version) != version:
            raise ValueError(f"setup.cfg: {name} has the bounds {found[name]} and {version}")
    return found


if __name__ == "__main__":
    for name, version in lowest_versions(SETUP.read_text(encoding="utf-8"), sys.argv[1:]).items():
        print(f"{name}=={version}")
