"""From the bytes of a request to its posts, within limits that hold while they arrive."""
