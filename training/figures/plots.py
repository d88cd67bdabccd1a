"""Draws what :mod:`training.figures.analysis` and :mod:`training.scoring` compute.

The colors are Okabe and Ito's (2008), which people with any color vision can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from training.figures.analysis import NOTHING, Representations, modality_gap, principal_plane
from training.scoring.calibration import Calibration
from training.scoring.scores import Scores

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
_RESOLUTION, _PALETTE = 110, 64  # dots per inch and colors of a small file
_SCORES = (("precision", BLUE), ("recall", ORANGE), ("f1", GREEN))

History = Sequence[Mapping[str, float]]


def learning_curves(history: History) -> Figure:
    """Plot the loss, the bottleneck's terms and F1 over the epochs of a run, as Trainer logged them."""
    bottleneck = any(entry.get("kl") for entry in history)
    logged = {key for entry in history for key in entry}
    evaluated = sorted(key for key in logged - {"eval_f1"} if key.startswith("eval_") and key.endswith("_f1"))
    figure, panels = _panels(1 + 2 * bottleneck + bool(evaluated), columns=2, width=4.6)
    axes = iter(panels)
    _lines(next(axes), history, {"loss": "all terms", "loss_spans": "spans"}, "training loss (nats)", log=True)
    if bottleneck:
        _lines(next(axes), history, {"info_nce": "InfoNCE"}, "InfoNCE (nats)")
        _lines(next(axes), history, {"kl": "KL of the posteriors"}, "KL (nats)", log=True)
    if evaluated:
        names = {key: key.removeprefix("eval_").removesuffix("_f1") for key in evaluated} | {"eval_f1": "mean"}
        _lines(next(axes), history, names, "F1 on the valid split", marker="o")
    return figure


def _lines(
    axes: Axes, history: History, names: Mapping[str, str], label: str, *, log: bool = False, marker: str = ""
) -> None:
    colors = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
    for i, (key, name) in enumerate(names.items()):
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
        axes.plot(*zip(*points, strict=True), label=name, color=colors[i % len(colors)], marker=marker or None)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    if len(names) > 1:
        axes.legend(loc="best", framealpha=0.8, edgecolor="none")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def alignment(seen: Representations) -> Figure:
    """Plot figure 3 of the paper: text and image before and after CMIB, their similarity before and after CMA."""
    clouds = [("before CMIB", seen.text, seen.image)]
    if seen.text_posterior is not None and seen.image_posterior is not None:
        clouds.append(("after CMIB", seen.text_posterior.mean, seen.image_posterior.mean))
    similarities = [("before CMA", seen.apart)] if len(seen.apart) else []
    if similarities and seen.attended is not None:
        similarities.append(("after CMA", seen.attended))
    figure, panels = _panels(len(clouds) + len(similarities), columns=2, width=4.6, height=4.0)
    letters = iter("abcd")
    axes = iter(panels)
    for stage, text, image in clouds:
        _scatter(next(axes), text, image, f"({next(letters)}) {stage}")
    for stage, cosines in similarities:
        _histogram(next(axes), cosines, f"({next(letters)}) {stage}")
    return figure


def _scatter(axes: Axes, text: Tensor, image: Tensor, title: str) -> None:
    clouds = zip(principal_plane(text, image), ("text", "photo"), (BLUE, ORANGE), "o^", strict=True)
    for cloud, name, color, marker in clouds:
        x, y = cloud.T.numpy()
        axes.scatter(x, y, s=14, alpha=0.6, linewidths=0, color=color, marker=marker, label=name)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.set_title(f"{title}, {len(text)} posts, gap {modality_gap(text, image):.2f}")
    axes.legend(frameon=False)


def _histogram(axes: Axes, cosines: Tensor, title: str) -> None:
    axes.hist(cosines.numpy(), bins=40, range=(-1, 1), color=BLUE)
    axes.axvline(0, color="black", linewidth=0.8)
    positive = float((cosines > 0).float().mean())
    axes.set_title(f"{title}, {positive:.0%} above 0")
    axes.set(xlabel="cosine of an entity's span and the photo", ylabel="entities", xlim=(-1, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def confusion_matrix(counts: Sequence[Sequence[int]], types: Sequence[str]) -> Figure:
    """Plot the counts of :func:`training.figures.analysis.confusion`; a cell's shade is its share of its row."""
    names = [*types, NOTHING]
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    figure = Figure(figsize=(1.6 + 0.95 * len(names), 1.4 + 0.8 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if (i, j) != (len(types), len(types)):
                share = f"\n{shares[i][j]:.0%}" if i < len(types) else ""
                color = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, f"{count}{share}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), [*types, "missed"])
    axes.set_yticks(range(len(names)), [*types, "spurious"])
    title = "entities, and their share\nof the gold ones of the type"
    axes.set(xlabel="predicted type", ylabel="gold type", title=title)
    return figure


def scores_by_group(scores: Mapping[str, Scores], label: str) -> Figure:
    """Plot precision, recall and F1 of each group of entities."""
    figure = Figure(figsize=(max(4.6, 1.4 + 1.2 * len(scores)), 3.8), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(_SCORES)
    for k, (key, color) in enumerate(_SCORES):
        places = [i + (k - 1) * width for i in range(len(scores))]
        bars = axes.bar(places, [getattr(each, key) for each in scores.values()], width, color=color)
        bars.set_label("F1" if key == "f1" else key)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.set_xticks(range(len(scores)), [f"{name}\n{each.support} gold" for name, each in scores.items()])
    axes.set(xlabel=label, ylabel="score", ylim=(0, 1.08))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def reliability(calibration: Calibration) -> Figure:
    """Plot how often entities are right against the model's scores, and how many entities there are."""
    figure = Figure(figsize=(4.8, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = calibration.bins
    widths = [each.high - each.low for each in bins]
    lows, accuracies = [each.low for each in bins], [each.accuracy for each in bins]
    upper.bar(lows, accuracies, widths, align="edge", color=BLUE, edgecolor="white", label="right")
    upper.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="as the score says")
    upper.plot([each.score for each in bins], accuracies, "o", color=VERMILION, label="mean score")
    error = "" if calibration.ece is None else f"expected calibration error {calibration.ece:.3f}"
    upper.set(ylabel="share of entities that are right", xlim=(0, 1), ylim=(0, 1), title=error)
    upper.legend(frameon=False, loc="upper left")
    lower.bar(lows, [each.count for each in bins], widths, align="edge", color=BLUE, edgecolor="white")
    lower.set(xlabel="score", ylabel="entities")
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure as a file of a few kilobytes: flat colors need no more than a palette."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_RESOLUTION)
    Image.open(drawn).convert("RGB").quantize(_PALETTE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _panels(count: int, *, columns: int, width: float, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``count`` panels in rows of ``columns``."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    axes = list(chain.from_iterable(grid))
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]
