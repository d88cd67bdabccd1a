import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    ServiceError,
    TextTooLong,
)
from service.http.bodies.post_content import PostContent
from tests.service.http.bodies.arrival import FORM_TYPE, cut_up, read


def part(disposition: str, content: bytes) -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


TEXT = part('name="text"', b"hello")
IMAGE = part('name="image"; filename="a.jpg"', b"\xff\xd8image")
END = b"--xx--\r\n"


def test_form_has_text_and_image() -> None:
    assert read(TEXT + IMAGE + END) == PostContent("hello", b"\xff\xd8image")
    assert read(IMAGE + TEXT + END) == PostContent("hello", b"\xff\xd8image")
    assert read(TEXT + END) == PostContent("hello", None)


@given(cuts=st.lists(st.integers(0, len(TEXT + IMAGE + END)), max_size=8))
def test_chunk_boundaries_make_no_difference(cuts: list[int]) -> None:
    body = TEXT + IMAGE + END
    assert read(cut_up(body, cuts)) == PostContent("hello", b"\xff\xd8image")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(str.strip))
def test_any_text_arrives_unchanged(text: str) -> None:
    if "\r\n--xx" not in text:
        assert read(part('name="text"', text.encode()) + END).text == text


def test_parts_may_have_file_names_or_none() -> None:
    body = part('name="text"; filename="tweet.txt"', b"hello") + part('name="image"', b"\xff\xd8") + END
    assert read(body) == PostContent("hello", b"\xff\xd8")


def test_file_field_left_empty_is_no_image() -> None:
    assert read(TEXT + part('name="image"; filename=""', b"") + END).image is None


def test_empty_image_is_refused() -> None:
    with pytest.raises(EmptyImage, match="0 bytes"):
        read(TEXT + part('name="image"; filename="a.jpg"', b"") + END)


def test_missing_text_and_empty_text_differ() -> None:
    with pytest.raises(MissingText):
        read(IMAGE + END)
    with pytest.raises(EmptyText, match="0 characters"):
        read(part('name="text"', b"") + END)
    with pytest.raises(EmptyText, match="4 characters"):
        read(part('name="text"', " \n\u2003\t".encode()) + END)


def test_text_length_is_in_code_points() -> None:
    assert len(read(part('name="text"', ("é" * 100).encode()) + END).text) == 100
    with pytest.raises(TextTooLong, match="101 characters; the limit is 100"):
        read(part('name="text"', ("é" * 101).encode()) + END)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TEXT + TEXT + END, "more than one part named text"),
        (TEXT + IMAGE + IMAGE + END, "more than one part named image"),
        (TEXT + part('name="photo"; filename="a.jpg"', b"x") + END, "'photo'; allowed are text, image"),
        (part('name="text"', b"caf\xe9") + END, "not UTF-8: .* at byte 3"),
        (part('name="text"', b"\xed\xa0\xbd") + END, "not UTF-8"),
        (TEXT, "ends before its closing boundary"),
        (b"", "no line of the form is the boundary"),
        (b"nothing of the kind", "no line of the form is the boundary"),
        (TEXT.replace(b"xx", b"yy"), "no line of the form is the boundary"),
        ((TEXT + END).replace(b"\r\n", b"\n"), "no line of the form is the boundary .* lines end with CR and LF"),
        (b"see\r" + TEXT + END, "no line of the form is the boundary"),
        (b"--xx\r\nBad Header\r\n\r\n" + END, "not a valid multipart form"),
        (
            b"--xx\r\n" + b"A: 1\r\n" * 100 + b"\r\n" + END,
            "header count exceeded; a part may have 8 headers of 4224 bytes",
        ),
        (b"--xx\r\nA: " + b"1" * 5000 + b"\r\n\r\n" + END, "header size exceeded; .* of 4224 bytes"),
    ],
)
def test_malformed_form_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(body)


@pytest.mark.parametrize(("boundary", "reason"), [("", "no boundary"), ("; boundary=" + "x" * 300, "300 .* of 256")])
def test_missing_or_long_boundary_is_refused(boundary: str, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(TEXT + END, "multipart/form-data" + boundary)


def test_unannounced_body_is_counted_as_it_arrives() -> None:
    chunks = [TEXT, part('name="image"', b"")[:-2], *[b"y" * 900] * 20]
    with pytest.raises(ServiceError, match="the limit is"):
        read(chunks)
    with pytest.raises(BodyTooLarge, match="at least 10"):
        read([b"--xx\r\nContent-Disposition: form-data; name=text\r\n\r\n", *[b"y" * 999] * 20])


def test_large_image_is_refused_as_it_arrives() -> None:
    with pytest.raises(ImageFileTooLarge, match="at least 1001 bytes; the limit is 1000"):
        read([TEXT, IMAGE[:-2], b"y" * 994], cut=True)


def test_disconnect_during_the_upload_is_raised() -> None:
    with pytest.raises(ClientDisconnected):
        read([TEXT], cut=True)


@pytest.mark.parametrize("header", ["Content-Transfer-Encoding", "Content-Encoding"])
def test_encoded_part_is_refused_by_name(header: str) -> None:
    """The entities of the base64 itself were the answer."""
    body = TEXT.replace(b"\r\n\r\n", f"\r\n{header}: Base64 \r\n\r\n".encode())
    with pytest.raises(MalformedRequest, match=f"the {header} of the part named text is 'Base64'"):
        read(body + END)
    with pytest.raises(MalformedRequest, match=f"the {header} of the part named image is 'gzip'"):
        read(TEXT + IMAGE.replace(b"\r\n\r\n", f"\r\n{header.lower()}:gzip\r\n\r\n".encode()) + END)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("Content-Transfer-Encoding", ("base64", "8bit")),
        ("content-encoding", ("gzip", "identity")),
        ("Content-Type", ("text/plain; charset=utf-16", "text/plain")),
        ("Content-Disposition", ("form-data; name=image",)),
    ],
)
def test_part_has_no_header_twice(header: str, values: tuple[str, ...]) -> None:
    """The last one counted, so base64 was read as it is."""
    lines = "".join(f"\r\n{header}: {value}" for value in values).encode()
    with pytest.raises(MalformedRequest, match=f"part 2 of the form has the header {header.lower()} more than once"):
        read(IMAGE + TEXT.replace(b"\r\n\r\n", lines + b"\r\n\r\n") + END)


def test_part_may_repeat_other_headers() -> None:
    assert read(TEXT.replace(b"\r\n\r\n", b"\r\nX-Hop: a\r\nX-Hop: b\r\n\r\n") + END).text == "hello"


@pytest.mark.parametrize("encoding", ["7bit", "8BIT", "binary", "identity"])
def test_part_that_is_not_encoded_is_read(encoding: str) -> None:
    body = TEXT.replace(b"\r\n\r\n", f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode())
    assert read(body + END).text == "hello"


@pytest.mark.parametrize("charset", ["utf-16le", '"iso-8859-1"', "no-such", "utf-7"])
def test_other_charset_is_refused_by_name(charset: str) -> None:
    typed = TEXT.replace(b"\r\n\r\n", f"\r\nContent-Type: text/plain; Charset={charset}\r\n\r\n".encode())
    name = charset.strip('"')
    with pytest.raises(MalformedRequest, match=f"charset of the part named text is '{name}'; it must be utf-8"):
        read(typed + END)
    with pytest.raises(MalformedRequest, match=f"charset of the form is '{name}'"):
        read(TEXT + END, f"{FORM_TYPE}; charset={charset}")
    with pytest.raises(MalformedRequest, match=f"charset of the part named _charset_ is '{name}'"):
        read(TEXT + part('name="_charset_"', name.encode()) + END)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_charset_that_is_utf_8_is_read(charset: str) -> None:
    typed = TEXT.replace(b"\r\n\r\n", f"\r\nContent-Type: text/plain; charset={charset}\r\n\r\n".encode())
    named = part('name="_charset_"', charset.strip('"').encode())
    assert read(named + typed + END, f"{FORM_TYPE}; charset={charset}").text == "hello"


def test_charset_of_an_image_means_nothing() -> None:
    typed = IMAGE.replace(b"\r\n\r\n", b"\r\nContent-Type: image/jpeg; charset=binary\r\n\r\n")
    assert read(TEXT + typed + END).image == b"\xff\xd8image"


def test_long_charset_field_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="_charset_ has at least 41 bytes; the limit is 40"):
        read(part('name="_charset_"', b"u" * 41) + TEXT + END)


@pytest.mark.parametrize(
    "head", [b"X-Other: 1", b"Content-Disposition: form-data", b'Content-Disposition: form-data; name=""']
)
def test_part_without_a_name_is_called_that(head: bytes) -> None:
    with pytest.raises(MalformedRequest, match=r"part 2 of the form has no name; .* form-data; name=text"):
        read(TEXT + b"--xx\r\n" + head + b"\r\n\r\nx\r\n" + END)


PADDED = (TEXT + IMAGE + END).replace(b"--xx\r\n", b"--xx \t \r\n")


@given(
    cuts=st.lists(st.integers(0, 300), max_size=8),
    preamble=st.sampled_from([b"", b"\r\n", b"see\n", b"--x\r\n--xxx\r\nsee\r\n"]),
)
def test_preamble_padding_and_epilogue_are_ignored(cuts: list[int], preamble: bytes) -> None:
    body = preamble + PADDED + b"\r\nan epilogue"
    assert read(cut_up(body, cuts)) == PostContent("hello", b"\xff\xd8image")
