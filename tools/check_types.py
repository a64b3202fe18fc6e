"""Run mypy, if torch and NumPy are the versions it is kept clean for: their own types differ between versions.

With other versions the code runs as well, but mypy's verdict would be on their types. `--always` runs it even so.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

CHECKED = {"torch": "2.13", "numpy": "2.4"}


def main() -> int:
    """Return mypy's exit status, or 0 where it does not run."""
    found = {name: version(name) for name in CHECKED}
    others = [
        f"{name} {found[name]}" for name, kept in CHECKED.items() if not found[name].startswith(f"{kept}.")
    ]
    if others and "--always" not in sys.argv[1:]:
        kept = " and ".join(f"{name} {number}" for name, number in CHECKED.items())
        print(f"types not checked: this is {' and '.join(others)}, mypy is kept clean for {kept}")
        return 0
    return subprocess.run([sys.executable, "-m", "mypy"]).returncode


if __name__ == "__main__":
    sys.exit(main())
