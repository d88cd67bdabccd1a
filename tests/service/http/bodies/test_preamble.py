import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.http.bodies.preamble import Preamble
from tests.service.http.bodies.arrival import cut_up

pieces = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"-", b"--xx", b"\n--xx", b"\r\n--xx", b"--xxy", b" ", b"\t", b"words", b"x"]
)


def strip(body: bytes, cuts: list[int]) -> bytes:
    preamble = Preamble(b"xx")
    return b"".join(preamble.strip(chunk) for chunk in cut_up(body, cuts))


def test_first_boundary_begins_a_line() -> None:
    assert strip(b"--xx\r\nA", []) == b"--xx\r\nA"
    assert strip(b"see --xx\r\n\r\n--xx\r\nA", []) == b"--xx\r\nA"
    assert strip(b"see --xx\r\n", []) == b""


def test_longer_line_is_no_boundary() -> None:
    assert strip(b"--xxx\r\n--xx y\r\n--xx\r\nA", []) == b"--xx\r\nA"


def test_padding_is_dropped_before_the_line_ends() -> None:
    assert strip(b"--xx \t \r\nA \r\n", []) == b"--xx\r\nA \r\n"


def test_lines_of_a_preamble_may_end_with_lf() -> None:
    """The first boundary was overlooked, and the closing one taken for it: the post had no text."""
    assert strip(b"see\n--xx\r\nA\r\n--xx--", []) == b"--xx\r\nA\r\n--xx--"
    assert strip(b"\n--xx \r\nA", []) == b"--xx\r\nA"


@pytest.mark.parametrize("first", [b"--xx\n", b"see --xx\r\n", b"see\r--xx\r\n", b"--xx;\r\n"])
def test_closing_boundary_is_not_the_first(first: bytes) -> None:
    body = first + b"A\r\n--xx--\r\n"
    for cut in range(len(body)):
        assert strip(body, [cut]) == b""


def test_form_may_close_at_once() -> None:
    assert strip(b"--xx--\r\nepilogue", []) == b"--xx--\r\nepilogue"
    assert strip(b"--xx --\r\n", []) == b""


@given(body=st.lists(pieces, max_size=12).map(b"".join), cuts=st.lists(st.integers(0, 40), max_size=6))
@example(body=b"\r\n\r\n\r\n--xx--xx\r\n--xxwords\r\n--xx--xxy", cuts=[25])
def test_chunks_make_no_difference(body: bytes, cuts: list[int]) -> None:
    assert strip(body, cuts) == strip(body, [])


def test_long_preamble_and_padding_are_not_kept() -> None:
    preamble = Preamble(b"xx")
    for chunk in [b"y" * 1000, b"\r\n--xx", *[b" " * 1000] * 100]:
        assert preamble.strip(chunk) == b""
        assert len(preamble._held) < 10
    assert preamble.strip(b"\r\nA") == b"--xx\r\nA"
