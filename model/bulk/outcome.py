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
        part = event.part
        if isinstance(event, Progress):
            self._begun[part] = self._begun.get(part, Counts()) + event.counts
            report.update(event.counts)
        elif isinstance(event, Restarted):
            self._begun.pop(part, None)
            report.say(f"what answered {part.source} has died; the file is begun again")
        elif isinstance(event, Finished) and event.error is not None:
            self._begun.pop(part, None)
            self.errors.append(event.error)
            report.say(event.error)
        else:
            self.answered[part] = self._begun.pop(part, Counts())
            report.update(Counts(), files=1)

    def __str__(self) -> str:
        posts = self.counts.posts - self.counts.failed
        sentence = f"{posts:,} {'post' if posts == 1 else 'posts'} answered, {self.counts.failed:,} failed"
        if self.errors:
            sentence += f"; {len(self.errors):,} files not answered, of which the first: {self.errors[0]}"
        elif self.left:
            sentence += f"; {self.left:,} files are left to other shards"
        return sentence
