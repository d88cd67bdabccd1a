"""What came of a run, kept while it goes on."""

from dataclasses import dataclass, field

from model.bulk.counts import Counts
from model.bulk.plan import Part
from model.bulk.progress import ProgressReport
from model.bulk.worker import Event, Finished, Progress, Restarted


@dataclass(slots=True)
class Outcome:
    """The counts of a share's answers, and why some files have none.

    Attributes:
        answered: what this run has answered; ``counts`` also has what earlier runs did.
        left: parts that other shares have still to answer.
    """

    counts: Counts = field(default_factory=Counts)
    answered: dict[Part, Counts] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    left: int = 0
    _begun: dict[Part, Counts] = field(default_factory=dict)

    def note(self, event: Event, report: ProgressReport) -> None:
        """Take what happened into account, and show it."""
        match event:
            case Progress(part, counts):
                self._begun[part] = self._begun.get(part, Counts()) + counts
                report.update(counts)
            case Finished(part, None):
                self.answered[part] = self._begun.pop(part, Counts())
                report.update(Counts(), files=1)
            case Finished(part, str(error)):
                self._begun.pop(part, None)
                self.errors.append(error)
                report.say(error)
            case Restarted(part):
                self._begun.pop(part, None)
                report.say(f"what answered {part.source} has died; the file is begun again")
            case _:
                report.update(Counts())

    def __str__(self) -> str:
        answered = _number(self.counts.posts - self.counts.failed, "post")
        sentence = f"{answered} answered, {self.counts.failed:,} failed"
        if self.errors:
            sentence += f"; {_number(len(self.errors), 'file')} not answered, of which the first: {self.errors[0]}"
        elif self.left:
            sentence += f"; {_number(self.left, 'file')} left to other shards"
        return sentence


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
