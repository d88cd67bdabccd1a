"""Images and forms made to break something: each gets a documented answer, and the server survives.

The profile of hypothesis decides how many are tried: a hundred, or thousands with
``pytest tests/service/test_fuzz.py --hypothesis-profile thorough``; test_fuzz_json.py has the bodies of JSON.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data as free_images

from tests.service.conftest import API_KEY, form
from tests.service.process import ServerProcess

POST, BATCH = "/recognize", "/recognize/batch"
TEXT = "RT @NBA: Kawhi Leonard 🏀 joins Toronto"

hostile = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class Target:
    """The server, whose answers are checked against its OpenAPI document."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        paths = client.get("/openapi.json").json()["paths"]
        self._documented: dict[str, dict[int, Any]] = {
            path: {int(status): response for status, response in paths[path]["post"]["responses"].items()}
            for path in (POST, BATCH)
        }
        self._healthy = self.entities(self.ask(files=form(TEXT)))
        assert self._healthy

    def ask(self, *, path: str = POST, **request: Any) -> httpx.Response:
        """Send a post or a batch; a connection that is closed without an answer raises."""
        answer = self._client.post(path, **request)
        assert answer.status_code < 500 or answer.status_code in (503, 504), answer.text
        documented = self._documented[path][answer.status_code]
        assert answer.headers["content-type"] in documented["content"]
        if answer.status_code != 200:
            assert answer.json()["code"] in re.findall(r"`(\w+)`", documented["description"])
        return answer

    def try_out(self, **request: Any) -> httpx.Response:
        """The same, counted by outcome for ``--hypothesis-show-statistics``."""
        answer = self.ask(**request)
        event(f"{answer.status_code} {answer.json().get('code', '')}")
        return answer

    def is_well(self) -> bool:
        """Whether it still answers as it did at first."""
        return self.entities(self.ask(files=form(TEXT))) == self._healthy

    @staticmethod
    def entities(answer: httpx.Response) -> object:
        return answer.json()["entities"]


@pytest.fixture(scope="module")
def target(server: ServerProcess) -> Iterator[Target]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=server.address, timeout=20, headers=headers) as client:
        yield Target(client)
    assert {entry["level"] for entry in server.log()} <= {"info", "warning"}


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _files() -> list[bytes]:
    """Files of all four formats that take different paths through their decoders."""
    image, other = (
        Image.fromarray(load()).resize((160, 120))  # type: ignore[no-untyped-call]
        for load in (free_images.astronaut, free_images.coffee)
    )
    upside_down = Image.Exif()
    upside_down[0x0112] = 3  # orientation
    transparent = image.copy()
    transparent.putalpha(128)
    animation: dict[str, Any] = {"save_all": True, "append_images": [other], "duration": 100}
    return [
        _encoded(image, "JPEG"),
        _encoded(image, "JPEG", progressive=True, exif=upside_down),
        _encoded(image.convert("CMYK"), "JPEG"),
        _encoded(image.convert("L"), "JPEG", icc_profile=b"no profile"),
        _encoded(image, "PNG", exif=upside_down),
        _encoded(image.quantize(16), "PNG", transparency=0),
        _encoded(image.convert("I;16"), "PNG"),
        _encoded(transparent, "PNG", **animation),
        _encoded(image, "WEBP"),
        _encoded(transparent, "WEBP", lossless=True, exif=upside_down),
        _encoded(image, "WEBP", **animation),
        _encoded(image, "GIF"),
        _encoded(image.quantize(8), "GIF", transparency=0, **animation),
    ]


FILES = _files()

# Mostly in the first bytes, which have the format and the size; otherwise modulo the length.
positions = st.integers(0, 80) | st.integers(0, 2**20)
numbers = st.sampled_from(
    [b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
)

Change = Callable[[bytes], bytes]


def overwrite(place: int, new: bytes) -> Change:
    return lambda old: old[: place % len(old)] + new + old[place % len(old) + len(new) :] if old else new


def insert(place: int, new: bytes) -> Change:
    return lambda old: old[: place % len(old)] + new + old[place % len(old) :] if old else new


def remove(place: int, length: int) -> Change:
    return lambda old: old[: place % len(old)] + old[place % len(old) + length :] if old else old


def repeat(place: int, length: int, times: int) -> Change:
    return lambda old: old[:place] + old[place : place + length] * times + old[place + length :]


def cut(place: int) -> Change:
    return lambda old: old[: place % len(old)] if old else old


changes = st.lists(
    st.builds(overwrite, positions, st.binary(min_size=1, max_size=4) | numbers)
    | st.builds(insert, positions, st.binary(min_size=1, max_size=8) | numbers)
    | st.builds(remove, positions, st.integers(1, 100))
    | st.builds(repeat, st.integers(0, 500), st.integers(1, 100), st.integers(2, 20))
    | st.builds(cut, positions),
    max_size=4,
)


def changed(content: bytes, by: Sequence[Change]) -> bytes:
    for change in by:
        content = change(content)
    return content


def with_right_checksums(png: bytes) -> bytes:
    """Recompute the checksums of a damaged PNG, so that not every damage is found by them."""
    repaired, rest = png[:8], png[8:]
    while len(rest) >= 12:
        length = int.from_bytes(rest[:4])
        body, rest = rest[4 : 8 + length], rest[12 + length :]
        repaired += length.to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    return repaired


@hostile
@given(file=st.sampled_from(FILES), changes=changes, repair=st.booleans())
def test_damaged_images_get_documented_answers(
    target: Target, file: bytes, changes: list[Change], repair: bool
) -> None:
    content = changed(file, changes)
    if repair and content.startswith(b"\x89PNG"):
        content = with_right_checksums(content)
    answer = target.try_out(files=form(TEXT, content))
    assert answer.status_code in (200, 413, 415, 422)
    if answer.status_code == 200:
        assert answer.json()["image_used"] is True


@hostile
@given(start=st.sampled_from([file[:12] for file in FILES] + [b""]), rest=st.binary(max_size=500))
def test_bytes_that_begin_like_images_are_refused(target: Target, start: bytes, rest: bytes) -> None:
    assert target.try_out(files=form(TEXT, start + rest)).status_code in (413, 415, 422)


def test_undamaged_files_are_read(target: Target) -> None:
    """Otherwise the damaged ones would prove little."""
    assert [target.ask(files=form(TEXT, file)).status_code for file in FILES] == [200] * len(FILES)


class Form(NamedTuple):
    """A body and its Content-Type."""

    content_type: bytes
    body: bytes


def mostly(usual: Any, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The usual value in seven of eight cases: a form with everything wrong is refused for its first fault."""
    return st.integers(0, 7).flatmap(lambda roll: odd if roll == 7 else st.just(usual))


boundaries = st.sampled_from([b"x", b"x" * 70, b"x" * 300, b"", b"a b", b"--", b"\xff", b"'()+_,-./:=?"])
dispositions = st.builds(
    lambda kind, name, more: kind + b"; name=" + name + more,
    mostly(b"form-data", st.sampled_from([b"attachment", b"", b"form-data;;;"])),
    st.sampled_from(
        [
            b"text",
            b'"text"',
            b'"image"',
            b"'text'",
            b"",
            b"TEXT",
            b"te\0xt",
            b"n" * 10_000,
            "ımage".encode(),
            b'"a\\"b"',
        ]
    ),
    st.sampled_from(
        [
            b"",
            b'; filename="a.jpg"',
            b'; filename=""',
            b"; filename*=UTF-8''%e2%82%ac",
            b"; filename*=no-such-charset'xx'%ff%fe",
            b"; filename*0=a; filename*1=b; filename*3=c",
            b'; filename="../../etc/passwd\\',
            b"; name=image",
            b"; filename=" + b"f" * 10_000,
        ]
    ),
)
odd_headers = st.tuples(
    st.sampled_from([b"Content-Disposition", b"content-disposition", b"Content-Disposition ", b"X-Content"]),
    dispositions,
) | st.tuples(
    st.sampled_from([b"Content-Type", b"Content-Transfer-Encoding", b"Content-Length", b"X" * 5000, b""]),
    st.sampled_from(
        [b"text/plain; charset=utf-16", b"text/plain; charset=no-such", b"base64", b"-1", b"", b"\xff\0", b"v" * 9000]
    ),
)
texts = [TEXT.encode(), b"", b" \r\n", TEXT.encode("utf-16"), b"\xff\xfe", b"--xx", b"x" * 20_000]


def part(name: bytes, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    """The header lines of a part, and its content."""
    usual = [(b"Content-Disposition", b"form-data; name=" + name)]
    return st.tuples(mostly(usual, st.lists(odd_headers, max_size=4)), content)


text_parts = part(b"text", mostly(texts[0], st.sampled_from(texts) | st.binary(max_size=200)))
image_parts = part(b'"image"; filename="a.jpg"', st.sampled_from(FILES) | st.binary(max_size=200))
parts = st.tuples(text_parts) | st.tuples(text_parts, image_parts) | st.lists(text_parts | image_parts, max_size=4)


@st.composite
def forms(draw: st.DrawFn) -> Form:
    """Forms in which anything that can be wrong sometimes is."""
    said = draw(mostly(b"xx", boundaries))
    written = draw(mostly(said, boundaries))
    line = draw(mostly(b"\r\n", st.sampled_from([b"\n", b"\r", b""])))
    body = draw(mostly(b"", st.sampled_from([b"a preamble\r\n", b"\r\n"])))
    for lines, content in draw(parts):
        head = b"".join(name + b": " + value + line for name, value in lines)
        body += b"--" + written + line + head + line + content + line
    body += b"--" + written + draw(mostly(b"--\r\n", st.sampled_from([b"", b"-", b"--junk", b"--\r\nan epilogue"])))
    odd_types = [
        b'multipart/form-data; charset=utf-16; boundary="' + said + b'"',
        b"Multipart/Form-Data; Boundary=" + said,
        b"multipart/form-data; boundary*=no-such'xx'" + said,
        b"multipart/form-data; boundary=" + said + b"; boundary=yy",
        b"multipart/mixed; boundary=" + said,
        b"multipart/form-data",
        b"",
    ]
    content_type = draw(mostly(b"multipart/form-data; boundary=" + said, st.sampled_from(odd_types)))
    return Form(content_type, changed(body, draw(mostly([], changes))))


@hostile
@given(form=forms(), cuts=st.none() | st.lists(st.integers(0, 1000), max_size=5))
def test_any_form_gets_a_documented_answer(target: Target, form: Form, cuts: list[int] | None) -> None:
    edges = None if cuts is None else [0, *sorted(cuts), len(form.body)]
    body = form.body if edges is None else (form.body[a:b] for a, b in pairwise(edges))
    answer = target.try_out(content=body, headers={"Content-Type": form.content_type})
    assert answer.status_code in (200, 400, 413, 415, 422)


def test_server_still_answers_as_at_first(target: Target) -> None:
    assert target.is_well()
