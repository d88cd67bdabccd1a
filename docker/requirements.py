"""Print the project's dependencies, so that the image can install them in a layer before the code.

``python requirements.py PYPROJECT [EXTRA …]`` prints the dependencies, or those of the extras.
"""

import sys
import tomllib
from pathlib import Path


def main(pyproject: str, *extras: str) -> None:
    """Print one requirement per line."""
    project = tomllib.loads(Path(pyproject).read_text("utf-8"))["project"]
    wanted = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
    print(*(requirement for group in wanted for requirement in group), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
