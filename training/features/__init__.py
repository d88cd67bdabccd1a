"""Image features: computed once by a frozen encoder, kept in a file, read by row."""
