from model import Post, SMNERProcessor
from model.posts import Row, plan_passes
from model.preprocessing.windows import split_windows


def post(processor: SMNERProcessor, text: str, tokens: int = 64) -> Post:
    roomy = SMNERProcessor(processor.tokenizer, processor.image_settings, max_tokens=100_000)
    return Post(text, split_windows(roomy.tokenize(text), tokens))


def padded(rows: list[Row]) -> int:
    return len(rows) * max(row.tokens for row in rows)


def test_posts_that_fit_share_a_pass_in_order(processor: SMNERProcessor) -> None:
    posts = [Post(text, [processor.tokenize(text)]) for text in ("a b c", "http://x.y/z", "", "a")]
    (rows,) = plan_passes(posts)
    assert [(row.post, row.number) for row in rows] == [(0, 0), (3, 0)]  # the others cannot have entities


def test_nothing_to_read_makes_no_pass(processor: SMNERProcessor) -> None:
    assert plan_passes([]) == plan_passes([Post("", [processor.tokenize("")])]) == []


def test_windows_of_mixed_lengths_waste_little(processor: SMNERProcessor) -> None:
    """One long line among 125 short ones once made 18 sub-tokens of padding for each real one."""
    passes = plan_passes([post(processor, ("." * 62 + "\n" + "a\n" * 125) * 40)])
    real = sum(row.tokens for rows in passes for row in rows)
    assert max(map(padded, passes)) <= 4096
    assert sum(map(padded, passes)) < 1.5 * real
    assert len({(row.post, row.number) for rows in passes for row in rows}) == 40 * 126
