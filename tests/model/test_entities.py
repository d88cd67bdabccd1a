import copy
import json
import pickle

from model import Answer, Entity

FOUND = [Entity("PER", "Kawhi Leonard", 0, 13, 0.9871), Entity("LOC", "Oslo", 20, 24, 0.5)]


def test_an_answer_is_the_list_of_its_entities() -> None:
    answer = Answer("Kawhi Leonard is in Oslo", FOUND)
    assert isinstance(answer, list)
    assert answer == FOUND
    assert repr(answer) == repr(FOUND)
    assert json.dumps(Answer("", [])) == "[]"


def test_a_copied_answer_keeps_its_text() -> None:
    answer = Answer("Kawhi Leonard is in Oslo", FOUND)
    for copied in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301
        assert copied == answer
        assert copied._repr_html_() == answer._repr_html_()
