"""Files of posts, in JSON lines: recognize each post, append its answer, resume after an interruption."""
