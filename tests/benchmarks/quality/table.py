"""The results as Markdown: mean ± sample standard deviation over the seeds, in points of 100."""

from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

from tests.benchmarks.quality.cells import Cell, Result
from tests.benchmarks.quality.data import QualityData

_PACKAGES = ("python", "torch", "transformers")


def document(cells: Sequence[Cell], *, head: str, baseline: str, command: str, recipe: str) -> str:
    """All of ``docs/lab/results.md`` or ``docs/lab/ideas.md``; cells without a result are listed as missing.

    Args:
        head: what the comparison is about.
        baseline: the system that Δ is the distance to.
        command: what makes it.
        recipe: the recipe's name and what was changed in it.
    """
    data = cells[0].data
    kept = [(cell, cell.result()) for cell in cells]
    results = [result for _, result in kept if result is not None]
    missing = [cell.title for cell, result in kept if result is None]
    seeds = ", ".join(_distinct(str(cell.recipe.seed) for cell in cells))
    titles = {cell.name: cell.system.title for cell in cells}
    sections = [
        _HEAD.format(head=head, command=command, recipe=recipe, seeds=seeds, baseline=titles[baseline]),
        *([f"**Not there yet:** {'; '.join(missing)}."] if missing else []),
        *(
            f"## {part.name}, valid\n\n{scores_table(results, titles, part.name, data.types, baseline=baseline)}"
            for part in data.parts
            if part.valid
        ),
        f"## Data\n\n{_data_table(data)}",
        f"## The run\n\n{_run_table(data, results, titles)}",
    ]
    return "\n\n".join(sections) + "\n"


def scores_table(
    results: Sequence[Result], titles: dict[str, str], part: str, types: Sequence[str], *, baseline: str
) -> str:
    """One row a system: precision, recall, F1, its distance to the baseline's, and F1 of the parts of the whole.

    Args:
        titles: of the systems by name, in the order of the rows.
    """
    paths = {"P": ("precision",), "R": ("recall",), "F1": ("f1",)}
    of_parts = {kind: ("by_type", kind) for kind in types} | {"seen": ("seen",), "unseen": ("unseen",)}
    supports = {
        name: _at(result["scores"][part], (*path, "support"))
        for result in results[:1]
        for name, path in of_parts.items()
    }
    header = ["system", "seeds", *paths, "Δ", *(f"{name} ({supports[name]})" for name in supports)]
    rows = []
    for name, title in titles.items():
        own = {result["seed"]: result["scores"][part] for result in results if result["system"] == name}
        columns = [*paths.values(), *((*path, "f1") for path in of_parts.values() if supports)]
        figures = [spread([100 * _at(scores, path) for scores in own.values()]) for path in columns]
        figures.insert(len(paths), spread(_differences(results, name, part, baseline)))
        rows.append([title, str(len(own)), *figures])
    return markdown([header, *rows])


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; the mean alone of one value, a dash of none."""
    if not values:
        return "–"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _differences(results: Sequence[Result], name: str, part: str, baseline: str) -> list[float]:
    """F1 above the baseline's with the same seed, in points."""
    f1 = {(result["system"], result["seed"]): 100 * result["scores"][part]["f1"] for result in results}
    if name == baseline:
        return []
    return [value - f1[baseline, seed] for (own, seed), value in f1.items() if own == name and (baseline, seed) in f1]


def _data_table(data: QualityData) -> str:
    rows = [["source", "training posts", "tagged by people", "with a photo", "SHA-256 of train", "SHA-256 of valid"]]
    for source in data.description["sources"]:
        counts = [str(source[key]) for key in ("posts", "gold", "photos")]
        checksums = [f"`{source[key]}`" if source[key] else "–" for key in ("train_sha256", "valid_sha256")]
        rows.append([source["name"], *counts, *checksums])
    teacher = data.description["teacher"]
    tagged = (
        f"\n\nThe others were tagged once, for all systems and seeds, by `{teacher['name']}` (text only)."
        if teacher
        else ""
    )
    return markdown(rows) + tagged


def _run_table(data: QualityData, results: Sequence[Result], titles: dict[str, str]) -> str:
    rows = [["system", "parameters, million", "best of epochs", "minutes"]]
    for name, title in titles.items():
        own = [result for result in results if result["system"] == name]
        best = ", ".join(f"{_best(result)} of {len(result['f1_by_epoch'])}" for result in own)
        size = f"{own[0]['parameters'] / 1e6:.1f}" if own else "–"
        rows.append([title, size, best or "–", spread([result["seconds"] / 60 for result in own])])
    total = sum(result["seconds"] for result in results) + data.seconds
    facts = [
        f"{total / 60:.0f} minutes together, {data.seconds / 60:.0f} of them for the teacher and the photos",
        *_distinct(f"{_machine(result)}; code {result['code']}" for result in results),
    ]
    return markdown(rows) + "\n\n" + "\n".join(f"- {fact}" for fact in facts)


def _best(result: Result) -> int:
    """The epoch that was kept, from 1."""
    f1: list[float] = result["f1_by_epoch"]
    return 1 + f1.index(max(f1))


def _machine(result: Result) -> str:
    own = result["machine"]
    versions = ", ".join(f"{name} {own['versions'][name]}" for name in _PACKAGES)
    device = f"{own['gpu']} beside " if own.get("gpu") else ""
    return f"{device}{own['cores']} cores of {own['processor']}; {versions}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def _at(scores: dict[str, Any], path: Iterable[str]) -> Any:
    for key in path:
        scores = scores[key]
    return scores


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


_HEAD = """\
{head}

    {command}

Recipe {recipe}; seeds {seeds}.

Figures are entity-level, exact span and type, in points of 100, mean ± sample standard deviation over the seeds. Behind
P, R and F1 stands Δ, F1 above that of “{baseline}” with the same seed; then F1 of each type, and of mentions that the
train split of the same source has and has not (entities in brackets). The valid splits chose the epoch, so all figures
are a little too good."""
