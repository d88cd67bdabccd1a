"""What was measured: rows of a table, figures against their targets, and the machine."""

import datetime
import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch

from service.settings import available_cores
from tests.benchmarks.serving.load import Result

_PACKAGES = ("torch", "torchvision", "transformers", "timm", "pillow", "fastapi", "starlette", "uvicorn", "litserve")
_COLUMNS = ("system", "load", "posts/s", "spread", "÷ ceiling", "p50 ms", "p99 ms", "generator", "not answered")


@dataclass(slots=True)
class Row:
    """A system under a load, measured once or more.

    Attributes:
        rates: posts answered per second, of each measurement.
        seconds: to each answer.
        outcomes: how often each occurred.
        generator: the highest share of one core that the load generator used.
    """

    system: str
    load: str
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    generator: float = 0.0

    def add(self, result: Result) -> None:
        """Add a measurement."""
        self.rates.append(result.rate)
        self.seconds += result.answered
        self.outcomes += result.outcomes
        self.generator = max(self.generator, result.processor_share)

    @property
    def rate(self) -> float:
        """The median."""
        return median(self.rates)

    def cells(self, ceiling: float) -> list[str]:
        """The row of the table; the spread is (highest rate − lowest rate) ÷ median."""
        spread = (max(self.rates) - min(self.rates)) / (self.rate or 1.0)
        p50, p99 = (f"{1000 * percentile(self.seconds, p):.0f}" if self.seconds else "" for p in (50, 99))
        generator = f"{self.generator:.0%}" if self.outcomes else ""
        failures = ", ".join(f"{count} × {name}" for name, count in self.outcomes.items() if not name.endswith("200"))
        rates = [f"{self.rate:.1f}", f"{spread:.0%}", f"{self.rate / ceiling:.2f}" if ceiling else ""]
        return [self.system, self.load, *rates, p50, p99, generator, failures]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        milliseconds = {f"p{p}_ms": 1000 * percentile(self.seconds, p) for p in (50, 99) if self.seconds}
        row = {"system": self.system, "load": self.load, "posts_per_second": self.rates, **milliseconds}
        return row | {"outcomes": self.outcomes, "load_generator_processor_share": self.generator}


class Figure(NamedTuple):
    """A number and its target."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    def cells(self) -> list[str]:
        """The row of the table."""
        if self.at_least is not None:
            target, met = f"≥ {self.at_least:g}", self.value >= self.at_least
        elif self.at_most is not None:
            target, met = f"≤ {self.at_most:g}", self.value <= self.at_most
        else:
            return [self.name, f"{self.value:.3g}", "", ""]
        return [self.name, f"{self.value:.3g}", target, "met" if met else "MISSED"]


@dataclass(slots=True)
class Report:
    """Everything that a run measured."""

    settings: dict[str, Any]
    ceiling: float = 0.0
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, system: str, load: str) -> Row:
        """The row of a system under a load, created on first use."""
        for row in self.rows:
            if (row.system, row.load) == (system, load):
                return row
        self.rows.append(Row(system, load))
        return self.rows[-1]

    def figure(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Add a figure; NaN becomes a note."""
        if math.isnan(value):
            self.notes.append(f"{name}: nothing to measure")
        else:
            self.figures.append(Figure(name, value, at_least, at_most))

    def text(self) -> str:
        """The tables."""
        rows = table([list(_COLUMNS), *(row.cells(self.ceiling) for row in self.rows)])
        figures = table([["figure", "value", "target", ""], *(figure.cells() for figure in self.figures)])
        return "\n".join(["", rows, "", figures, "", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "machine": machine(),
            "settings": self.settings,
            "ceiling_posts_per_second": self.ceiling,
            "rows": [row.to_dict() for row in self.rows],
            "figures": [figure._asdict() for figure in self.figures],
            "notes": self.notes,
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that ``percent`` % of the values do not exceed; NaN without values."""
    if len(values) < 2:
        return values[0] if values else math.nan
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> dict[str, Any]:
    """Hardware, load and versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text("utf-8").splitlines() if information.is_file() else []
    processors = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": processors[0] if processors else platform.processor(),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(rows: list[list[str]]) -> str:
    """Rows in aligned columns, with a line under the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])
