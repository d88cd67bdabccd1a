"""Photos that were seen before: their features, kept by the SHA-256 of the file's bytes.

Retweets carry the same photo. A hit skips decoding and the image encoder.
"""

import hashlib
import threading
from collections.abc import Callable

from cachetools import LRUCache
from torch import Tensor


class ImageCache:
    """The features of the photos used last, bounded in bytes; may be used from several threads.

    Args:
        max_bytes: what all features together may take; 0 keeps none.
        on_lookup: told of every lookup whether it was a hit.
    """

    def __init__(self, max_bytes: int, *, on_lookup: Callable[[bool], None] = lambda _: None) -> None:
        self._features: LRUCache[bytes, Tensor] = LRUCache(max_bytes, getsizeof=lambda features: features.nbytes)
        self._lock = threading.Lock()
        self._on_lookup = on_lookup

    @staticmethod
    def key(image: bytes) -> bytes:
        """What a photo is kept by."""
        return hashlib.sha256(image).digest()

    def look_up(self, key: bytes) -> Tensor | None:
        """The features of a photo, (1 + m, C) float, if they are kept."""
        features = self.peek(key)
        self._on_lookup(features is not None)
        return features

    def peek(self, key: bytes) -> Tensor | None:
        """As :meth:`look_up`, without being counted."""
        with self._lock:
            return self._features.get(key)

    def clear(self) -> None:
        """Forget all photos."""
        with self._lock:
            self._features.clear()

    def keep(self, key: bytes, features: Tensor) -> None:
        """Keep a photo's features, at the cost of those not used for longest."""
        with self._lock:
            if features.nbytes <= self._features.maxsize:
                self._features[key] = features.clone()  # a view would keep the whole batch it was encoded in
