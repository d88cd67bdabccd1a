"""Folders of posts, here or on a Ray cluster: every file is answered in one step, and an interrupted run goes on."""
