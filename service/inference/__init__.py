"""From a post's text and image bytes to its entities. It knows no request, no schema and no status code."""
