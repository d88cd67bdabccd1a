"""What the rules for texts do to real posts: the counts in docs/texts.md.

    python -m tests.benchmarks.quality.text_counts --data DATA

``DATA`` holds ``twitter2015``, ``twitter2017`` and ``tweets``.
"""

import argparse
from collections import Counter
from pathlib import Path

from model.preprocessing.words import split_words
from training.data.posts import LabeledPost
from training.data.readers import read_posts

_SIGNS = {"hyphen": "-", "period": ".", "apostrophe": "'’", "ampersand": "&"}
_MAX_SPAN_WIDTH = 6


def count_links(texts: list[str]) -> list[str]:
    """The links that begin with neither a scheme nor ``www.``."""
    links = [word.visible for text in texts for word in split_words(text) if word.is_link]
    return [link for link in links if "://" not in link and not link.lower().startswith("www.")]


def count_glued(texts: list[str]) -> int:
    """The texts with a link that follows a letter or a number without a space."""
    glued = (
        any(word.is_link and word.start and text[word.start - 1].isalnum() for word in split_words(text))
        for text in texts
    )
    return sum(glued)


def count_punctuation(posts: list[LabeledPost]) -> Counter[str]:
    """How entities' words hold punctuation: as a part of a word, or as a word of its own."""
    counts: Counter[str] = Counter()
    for post in posts:
        for entity in post.entities or ():
            words = post.words[entity.start : entity.end + 1]
            counts["entities"] += 1
            counts[f"wider than {_MAX_SPAN_WIDTH} words"] += len(words) > _MAX_SPAN_WIDTH
            for name, signs in _SIGNS.items():
                counts[f"{name} in a word"] += any(len(word) > 1 and set(signs) & set(word) != set() for word in words)
                counts[f"{name} as a word"] += any(word in signs for word in words)
            after = post.words[entity.end + 1 : entity.end + 2]
            abbreviation = len(words) > 1 and words[-2] == "." and len(words[-1]) == 1
            counts["abbreviation whose last period is outside"] += abbreviation and after == (".",)
            counts["abbreviation whose last period is inside"] += words[-1] == "." and len(words) > 2
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    folder: Path = parser.parse_args().data
    tweets = (folder / "tweets" / "tweets.txt").read_text("utf-8").splitlines()
    links = count_links(tweets)
    bare = [link for link in links if "/" not in link and "@" not in link]
    print(f"tweets: {len(tweets)} posts, {len(links)} links by their domain, {len(bare)} of them a host alone:")
    print(" ", *sorted(bare))
    print(f"  {count_glued(tweets)} have a link behind a word without a space")
    for name in ("twitter2015", "twitter2017"):
        posts = read_posts(folder / name / "train.txt")
        links = count_links([" ".join(post.words) for post in posts])
        print(f"{name}: {len(links)} links by their domain: {' '.join(sorted(set(links)))}")
        for what, count in count_punctuation(posts).items():
            print(f"  {what}: {count}")


if __name__ == "__main__":
    main()
