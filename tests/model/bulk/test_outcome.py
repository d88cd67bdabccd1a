from model.bulk.counts import Counts
from model.bulk.outcome import Outcome
from model.bulk.plan import Part
from model.bulk.progress import ProgressReport
from model.bulk.worker import Event, Finished, Idle, Progress, Restarted

FILE, OTHER = Part("a.jsonl", "a.jsonl", 7), Part("b.jsonl", "b.jsonl", 7)


def note(*events: Event) -> tuple[Outcome, list[str]]:
    outcome, said = Outcome(), list[str]()
    with ProgressReport(files=2, done=0, log=said.append) as report:
        for event in events:
            outcome.note(event, report)
    return outcome, said


def test_what_died_is_not_counted() -> None:
    """Its posts are answered, and counted, once more by what follows it."""
    half, whole = Counts(posts=5, failed=1), Counts(posts=9, failed=1)
    outcome, said = note(Progress(FILE, half), Restarted(FILE), Idle(), Progress(FILE, whole), Finished(FILE))
    assert outcome.answered == {FILE: whole}
    assert said == ["what answered a.jsonl has died; the file is begun again"]


def test_a_file_without_answers_is_named() -> None:
    outcome, said = note(Progress(FILE, Counts(posts=5)), Finished(FILE, "a.jsonl is damaged"), Finished(OTHER))
    assert (list(outcome.answered), outcome.errors, said) == ([OTHER], ["a.jsonl is damaged"], ["a.jsonl is damaged"])
    assert str(outcome) == "0 posts answered, 0 failed; 1 file not answered, of which the first: a.jsonl is damaged"


def test_what_is_left_is_said() -> None:
    assert (
        str(Outcome(Counts(posts=2000, failed=1), left=2))
        == "1,999 posts answered, 1 failed; 2 files left to other shards"
    )
