from training.data.posts import LabeledPost, TypedWords, entity_types, split_retweet


def test_split_retweet_moves_entities_with_their_words() -> None:
    words = ("RT", "@1stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    post = LabeledPost("1", words, (TypedWords(5, 6, "LOC"),))
    split = split_retweet(post)
    assert split.words == ("RT", "@", "1", "stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    assert split.entities == (TypedWords(7, 8, "LOC"),)


def test_split_retweet_drops_the_at_from_entities() -> None:
    post = LabeledPost("1", ("RT", "@nasa", "tv"), (TypedWords(1, 2, "ORG"),))
    assert [split_retweet(post).mention(entity) for entity in split_retweet(post).entities or ()] == ["nasa tv"]


def test_split_retweet_keeps_untagged_posts_untagged() -> None:
    assert split_retweet(LabeledPost("1", ("RT", "@nasa"), None)).entities is None
    assert split_retweet(LabeledPost("1", ("RT", "@nasa"), ())).entities == ()


def test_a_mention_is_lower_case() -> None:
    post = LabeledPost("1", ("in", "St", ".", "Louis", "!"), None)
    assert post.mention(TypedWords(1, 3, "LOC")) == "st . louis"


def test_types_are_sorted_benchmarks_first() -> None:
    kinds = ("FILM", "MISC", "BAND", "PER", "MISC")
    tagged = LabeledPost("1", ("x",) * 5, tuple(TypedWords(i, i, kind) for i, kind in enumerate(kinds)))
    untagged = LabeledPost("2", ("x",), None)
    assert entity_types([untagged, tagged]) == ["PER", "MISC", "BAND", "FILM"]
