"""Posts: read from files, checked, encoded and put into batches."""
