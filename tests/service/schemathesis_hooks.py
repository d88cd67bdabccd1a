"""What Schemathesis is to leave out; it loads this file itself."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_body(context: schemathesis.HookContext, body: Any) -> bool:
    """A form has texts and files only: a null that is to break the schema arrives as a text, an empty list not at all.

    Both are answered, and rightly.
    """
    return not isinstance(body, dict) or all(isinstance(value, str | bytes) for value in body.values())
