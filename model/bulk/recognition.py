"""From folders of posts to folders of answers: what is left to do, and what is to be said at the end."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Self

from model.bulk.counts import Counts, total
from model.bulk.formats import format_of
from model.bulk.outcome import Outcome
from model.bulk.plan import InputFile, Part, find_inputs, plan_parts
from model.bulk.progress import ProgressReport
from model.bulk.records import SUMMARY_FILE, begin_run, write_summary
from model.bulk.stores import Folder, reaching
from model.bulk.worker import Event, Worker
from model.checkpoint import checkpoint_folder, verify_checkpoint
from model.device import Precision

_READERS = 16  # of answers to be counted, since each is a round trip
Engine = Callable[[Sequence[Part]], Iterator[Event]]


@dataclass(frozen=True, slots=True)
class Share:
    """One of ``count`` shares of the parts, by its number, which counts from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read ``3/16``; all parts if there is no text.

        Raises:
            ValueError: it is something else.
        """
        if text is None:
            return cls()
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"--shard {text}: expected K/N, with K from 0 to N - 1")
        return cls(int(index), int(count))


class BulkRun:
    """All there is to do, and what of it is done already.

    Raises:
        FileNotFoundError, ValueError, StoreUnavailable: the posts cannot be found.
        FileExistsError: the answers would mix with the posts, or with answers to others.
        InvalidCheckpoint: there is no such checkpoint.
    """

    def __init__(
        self, source: str, output: str, share: Share, *, checkpoint: str | None = None, precision: Precision = "auto"
    ) -> None:
        self._source = source
        self._inputs, files = find_inputs(source)
        self._outputs = Folder(output)
        self._files = _without_answers(self._inputs, files, self._outputs)
        self._checkpoint, self._precision = checkpoint_folder(checkpoint), precision
        self.revision = verify_checkpoint(self._checkpoint)
        self._parts = plan_parts(self._inputs, self._files)
        self._mine = self._parts[share.index :: share.count]
        names = self._outputs.names()
        done = self._among(names)
        begin_run(self._outputs, names, done, self._files, checkpoint=self.revision, precision=precision)
        answered = set(done)
        self.left = [part for part in self._mine if part not in answered]

    @property
    def addresses(self) -> tuple[str, str]:
        """Those of the posts and of the answers, as every machine knows them."""
        return self._inputs.address, self._outputs.address

    def answer(self, engine: Engine, log: Callable[[str], None]) -> Outcome:
        """Answer what is left.

        Raises:
            SMNERError, OSError, ValueError, RuntimeError: the run had to stop; the same command goes on.
        """
        outcome = Outcome()
        if self.left:
            self._outputs.remove(SUMMARY_FILE)
            with ProgressReport(files=len(self._mine), done=len(self._mine) - len(self.left), log=log) as report:
                for event in engine(self.left):
                    outcome.note(event, report)
            outcome.errors += self._changes()
        return self.finish(outcome)

    def finish(self, outcome: Outcome | None = None) -> Outcome:
        """Count all answers of this share; if those of all shares are there, write the summary."""
        outcome = outcome or Outcome()
        done = self._among(self._outputs.names())
        complete = len(done) == len(self._parts)
        mine = set(self._mine)
        counts = self._count_all([part for part in done if complete or part in mine], outcome.answered)
        outcome.counts = total(counts[part] for part in counts if part in mine)
        outcome.left = len(set(self._parts) - mine - set(done))
        if complete and not outcome.errors:
            checkpoint = {"name": self._checkpoint.resolve().name, "revision": self.revision}
            everything = total(counts.values())
            write_summary(self._outputs, everything, files=len(done), checkpoint=checkpoint, precision=self._precision)
        return outcome

    def _changes(self) -> list[str]:
        """What is wrong with files of posts that changed, be it between two parts; the next run refuses them, too."""
        now = {file.name: file.version for file in find_inputs(self._source)[1]}
        return [
            f"{self._inputs.name(file.name)} changed during the run; remove its answers"
            for file in self._files
            if now.get(file.name, file.version) != file.version
        ]

    def _among(self, names: Collection[str]) -> list[Part]:
        """The parts whose answers have one of these names."""
        return [part for part in self._parts if part.output in names]

    def _count_all(self, parts: Sequence[Part], known: dict[Part, Counts]) -> dict[Part, Counts]:
        with ThreadPoolExecutor(_READERS, "count") as pool:
            found = pool.map(lambda part: known[part] if part in known else self._count(part), parts)
            return dict(zip(parts, found, strict=True))

    def _count(self, part: Part) -> Counts:
        address = self._outputs.name(part.output)
        with reaching(address), self._outputs.open(part.output) as file:
            return format_of(part.output).count(file, address)


def here(worker: Worker) -> Engine:
    """Answers parts in this process, one after the other."""
    return lambda parts: chain.from_iterable(map(worker.work, parts))


def _without_answers(inputs: Folder, files: Sequence[InputFile], outputs: Folder) -> list[InputFile]:
    """The files that do not lie in the folder of answers, which a pattern such as ``**/*.parquet`` may match, too.

    Raises:
        FileExistsError: posts and answers would lie in one folder, or all posts beneath the answers.
    """
    source, output = (os.path.realpath(f.root) if f.is_local else f.address for f in (inputs, outputs))
    others = [file for file in files if not f"{source}/{file.name}".startswith(f"{output}/")]
    if source == output or not others:
        raise FileExistsError(f"{outputs.address} has the posts; choose another folder for the answers")
    return others
