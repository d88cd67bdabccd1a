import pytest

from service.errors import UnsupportedMediaType
from service.http.bodies.post_content import PostContent
from tests.service.http.bodies.arrival import FORM_TYPE, JSON_TYPE, read

FORM = b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n--xx--\r\n'


def test_post_is_read_from_either_body() -> None:
    assert read(FORM, FORM_TYPE) == read(b'{"text": "hello"}', JSON_TYPE) == PostContent("hello", None)


def test_other_bodies_are_refused_with_both_types() -> None:
    with pytest.raises(UnsupportedMediaType, match="must be multipart/form-data or application/json"):
        read(b"text=hello", "application/x-www-form-urlencoded")
