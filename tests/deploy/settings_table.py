"""Write the table of settings in docs/operations.md: ``python -m tests.deploy.settings_table``."""

from collections.abc import Iterator

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from service.settings import Settings
from tests.deploy.conftest import OPERATIONS

BEGIN, END = "<!-- settings: made by python -m tests.deploy.settings_table -->\n", "<!-- end of settings -->"


def settings_table() -> str:
    """A Markdown table with a row for each setting."""
    return "\n".join(["| variable | default | range | effect |", "| --- | --- | --- | --- |", *_rows(), ""])


def with_table(document: str) -> str:
    """The document with its table replaced by the current one."""
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{settings_table()}{END}{after}"


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        effect = (field.description or "").replace("|", "\\|")
        yield f"| `SMNER_{name.upper()}` | {_default(field)} | {_range(field)} | {effect} |"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "by the cores"
    if field.default is None:
        return "none"
    mebibytes = isinstance(field.default, int) and field.default % 2**20 == 0 and f" ({field.default // 2**20} MiB)"
    return f"`{field.default}`{mebibytes or ''}"


def _range(field: FieldInfo) -> str:
    bounds = {type(bound): bound for bound in field.metadata}
    low = str(bounds[Ge].ge) if Ge in bounds else f"> {bounds[Gt].gt}" if Gt in bounds else ""
    high = str(bounds[Le].le) if Le in bounds else ""
    return f"{low} … {high}" if low or high else ""


if __name__ == "__main__":
    OPERATIONS.write_text(with_table(OPERATIONS.read_text("utf-8")), "utf-8")
