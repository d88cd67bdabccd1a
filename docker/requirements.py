"""Print the project's dependencies, so that the image can install them in a layer before the code.

``python requirements.py PYPROJECT [EXTRA]`` prints the dependencies, or those of an extra.
"""

import sys
import tomllib
from pathlib import Path


def main(pyproject: str, extra: str | None = None) -> None:
    """Print one requirement per line."""
    project = tomllib.loads(Path(pyproject).read_text("utf-8"))["project"]
    print(*(project["optional-dependencies"][extra] if extra else project["dependencies"]), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
