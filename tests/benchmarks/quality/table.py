"""Results as Markdown: mean ± sample standard deviation over the seeds, in points of 100."""

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from statistics import mean, stdev
from typing import Any

from tests.benchmarks.quality.comparisons import Comparison
from tests.benchmarks.quality.results import Result

_PACKAGES = ("python", "torch", "transformers")


def document(comparison: Comparison, results: Iterable[Result], *, missing: Sequence[str] = ()) -> str:
    """The tables of a comparison: a section for all results of the same recipe and data, newest first.

    Args:
        missing: titles of cells that have no result yet.
    """
    order = list(comparison.systems)  # systems whose code is deleted come last
    runs: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda own: order.index(own["system"]) if own["system"] in order else len(order)):
        shared = json.dumps([result["recipe"], result["data"]], sort_keys=True)
        runs.setdefault(shared, []).append(result)
    sections = [
        _HEAD.format(head=comparison.head, baseline=comparison.systems[comparison.baseline].title),
        *([f"**Not there yet:** {'; '.join(missing)}."] if missing else []),
        *(_run(run, comparison.baseline) for run in sorted(runs.values(), key=_date, reverse=True)),
    ]
    return "\n\n".join(sections) + "\n"


def _run(results: Sequence[Result], baseline: str) -> str:
    first, seeds = results[0], sorted({result["seed"] for result in results})
    options = f"--compare {first['comparison']} --recipe {first['settings']} --seeds {' '.join(map(str, seeds))}"
    sections = [
        f"## {_date(results)}: {verdict(results, baseline)}",
        f"    make quality OPTIONS='{options}'",
        *(f"### {part}, valid\n\n{scores_table(results, part, baseline)}" for part in first["scores"]),
        f"### Data\n\n{_data_table(first['data'])}",
        f"### Training\n\n{_training_table(results)}",
    ]
    return "\n\n".join(sections)


def verdict(results: Sequence[Result], baseline: str) -> str:
    """The system with the highest F1, as a mean over the splits, and how far it is above the baseline on each."""
    parts = list(results[0]["scores"])
    titles = _titles(results)
    gains = {name: [gain for part in parts if (gain := _gains(results, name, part, baseline))] for name in titles}
    means = {name: list(map(mean, own)) for name, own in gains.items() if own}
    if not means:
        return "nothing to compare yet"
    best = max(means, key=lambda name: mean(means[name]))
    each = ", ".join(f"{gain:+.2f} on {part}" for part, gain in zip(parts, means[best], strict=True))
    return f"“{titles[best]}” is best, {each}"


def scores_table(results: Sequence[Result], part: str, baseline: str) -> str:
    """One row a system: precision, recall, F1, its gain over the baseline, then F1 by type and by mention."""
    scores = results[0]["scores"][part]
    paths = {"P": ("precision",), "R": ("recall",), "F1": ("f1",)}
    subsets = {kind: ("by_type", kind) for kind in scores["by_type"]} | {"seen": ("seen",), "unseen": ("unseen",)}
    supports = [f"{name} ({_at(scores, *path, 'support')})" for name, path in subsets.items()]
    rows = [["system", "seeds", *paths, "Δ", *supports]]
    for name, title in _titles(results).items():
        own = [result["scores"][part] for result in results if result["system"] == name]
        figures = [
            spread([100 * _at(scores, *path) for scores in own])
            for path in [*paths.values(), *((*path, "f1") for path in subsets.values())]
        ]
        figures.insert(len(paths), spread(_gains(results, name, part, baseline)))
        rows.append([title, str(len(own)), *figures])
    return markdown(rows)


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; the mean alone of one value, a dash for none."""
    if not values:
        return "–"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _gains(results: Sequence[Result], name: str, part: str, baseline: str) -> list[float]:
    """F1 above the baseline's with the same seed, in points."""
    f1 = {(result["system"], result["seed"]): 100 * result["scores"][part]["f1"] for result in results}
    if name == baseline:
        return []
    return [value - f1[baseline, seed] for (own, seed), value in f1.items() if own == name and (baseline, seed) in f1]


def _data_table(data: dict[str, Any]) -> str:
    rows = [["source", "training posts", "with gold tags", "with an image", "SHA-256 of train", "SHA-256 of valid"]]
    for source in data["sources"]:
        counts = [str(source[key]) for key in ("posts", "gold", "images")]
        checksums = [f"`{source[key]}`" if source[key] else "–" for key in ("train_sha256", "valid_sha256")]
        rows.append([source["name"], *counts, *checksums])
    teacher = data["teacher"]
    tagged = f"\n\nThe other posts were tagged once by `{teacher['name']}`, which sees text only." if teacher else ""
    return markdown(rows) + tagged


def _training_table(results: Sequence[Result]) -> str:
    rows = [["system", "parameters, million", "best of epochs", "minutes"]]
    for name, title in _titles(results).items():
        own = [result for result in results if result["system"] == name]
        best = ", ".join(f"{_best(result['f1_by_epoch'])} of {len(result['f1_by_epoch'])}" for result in own)
        minutes = spread([result["seconds"] / 60 for result in own])
        rows.append([title, f"{own[0]['parameters'] / 1e6:.1f}", best, minutes])
    facts = dict.fromkeys(f"- {_machine(result['machine'])}; code {result['code']}" for result in results)
    return markdown(rows) + "\n\n" + "\n".join(facts)


def _best(f1_by_epoch: list[float]) -> int:
    """The epoch that was kept, from 1."""
    return 1 + f1_by_epoch.index(max(f1_by_epoch))


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in _PACKAGES)
    device = f"{machine['gpu']} with " if machine.get("gpu") else ""
    return f"{device}{machine['cores']} cores of {machine['processor']}; {versions}"


def _date(results: Sequence[Result]) -> str:
    """The day of the last result, YYYY-MM-DD."""
    return max(str(result["machine"]["date"]) for result in results)[:10]


def _titles(results: Iterable[Result]) -> dict[str, str]:
    return {result["system"]: result["title"] for result in results}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def _at(scores: dict[str, Any], *path: str) -> Any:
    return reduce(lambda within, key: within[key], path, scores)


_HEAD = """\
{head}

F1, P and R are entity-level (exact span and type) on the valid splits, in points of 100, mean ± sample standard
deviation over the seeds. Δ is F1 above “{baseline}” with the same seed. Then F1 by type, and of mentions that the train
split of the same source has (seen) or has not (unseen), with the number of entities in brackets. The valid splits also
chose the epoch, so all figures are a little too good."""
