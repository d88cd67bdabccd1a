"""Chooses how to read a post by the type of its body."""

from service.http.bodies import form, json_posts
from service.http.bodies.body import Body
from service.http.bodies.post_content import PostContent
from service.settings import Settings


async def read_post(body: Body, limits: Settings) -> PostContent:
    """Read the body of one post.

    Raises:
        ServiceError: it is not as documented, or exceeds a limit.
        ClientDisconnected: the client closed the connection before its end.
    """
    media_type = body.media_type(form.MEDIA_TYPE, json_posts.MEDIA_TYPE)
    if media_type.name == form.MEDIA_TYPE:
        return await form.read_form(body, media_type.parameters, limits)
    return await json_posts.read_json(body, media_type, limits)
