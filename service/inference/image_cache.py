"""Caches the features of recent images by the SHA-256 of their files, since retweets carry the same image.

A hit skips decoding and the image encoder.
"""

import hashlib
import threading
from collections.abc import Callable

from cachetools import LRUCache
from torch import Tensor


class ImageCache:
    """A least-recently-used cache of image features, bounded in bytes and safe to use from several threads.

    Args:
        max_bytes: size of all features together; 0 turns the cache off.
        on_lookup: called with whether a lookup was a hit.
    """

    def __init__(self, max_bytes: int, *, on_lookup: Callable[[bool], None] = lambda _: None) -> None:
        self._features: LRUCache[bytes, Tensor] = LRUCache(max_bytes, getsizeof=lambda features: features.nbytes)
        self._lock = threading.Lock()
        self._on_lookup = on_lookup

    @staticmethod
    def key(image: bytes) -> bytes:
        """The key of an image file."""
        return hashlib.sha256(image).digest()

    def look_up(self, key: bytes) -> Tensor | None:
        """The features of an image, (1 + m, C) float, or None."""
        features = self.peek(key)
        self._on_lookup(features is not None)
        return features

    def peek(self, key: bytes) -> Tensor | None:
        """Like :meth:`look_up`, but not counted."""
        with self._lock:
            return self._features.get(key)

    def clear(self) -> None:
        """Remove all features."""
        with self._lock:
            self._features.clear()

    def put(self, key: bytes, features: Tensor) -> None:
        """Store an image's features, evicting those least recently used; features larger than the cache are ignored."""
        with self._lock:
            if features.nbytes <= self._features.maxsize:
                self._features[key] = features.clone()  # a view would keep its whole batch in memory
