"""Posts: read from files, checked, kept out, encoded and put into batches."""
