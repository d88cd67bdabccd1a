"""What every command line of training does: parse its options, and report a mistake without a traceback."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import wraps

from tqdm import tqdm

from model.display.marked_text import harmless
from model.errors import SMNERError


def command(
    name: str, description: str, add_arguments: Callable[[argparse.ArgumentParser], None], *, advice: str = ""
) -> Callable[[Callable[[argparse.Namespace], None]], Callable[..., int]]:
    """Turn a function of the parsed options into an entry point.

    It returns 0, 2 for a mistake of the caller, or 130 for Ctrl-C; these print one line, the latter with ``advice``.
    """

    def decorate(run: Callable[[argparse.Namespace], None]) -> Callable[..., int]:
        @wraps(run)
        def main(argv: Sequence[str] | None = None) -> int:
            parser = argparse.ArgumentParser(name, description=description)
            add_arguments(parser)
            options = parser.parse_args(argv)
            try:
                run(options)
            except (SMNERError, ValueError, OSError, ImportError) as error:
                message, status = " ".join(str(error).split()), 2
            except KeyboardInterrupt:
                message, status = "interrupted" + (advice and f"; {advice}"), 130
            else:
                return 0
            tqdm.write(f"{name}: {harmless(message)}", file=sys.stderr)  # in a line of its own, below any progress bar
            return status

        return main

    return decorate
