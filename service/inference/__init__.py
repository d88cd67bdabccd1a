"""From text and image bytes to entities, with limits, queue and batches; knows nothing of HTTP."""
