"""The REST service: a checkpoint behind HTTP, with limits, batching, health and metrics."""
