"""Image features: computed once by a frozen encoder, cached in a file, read by row."""
