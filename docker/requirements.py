"""Print what the project depends on, so that a layer with all of it can be made before the code is there.

``python requirements.py PYPROJECT [EXTRA]`` prints the dependencies, or those of an extra.
"""

import sys
import tomllib
from pathlib import Path


def main(pyproject: str, extra: str | None = None) -> None:
    """Print one requirement a line."""
    project = tomllib.loads(Path(pyproject).read_text("utf-8"))["project"]
    print(*(project["optional-dependencies"][extra] if extra else project["dependencies"]), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
