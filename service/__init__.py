"""The REST service: serves a checkpoint over HTTP, with limits, batching, health checks and metrics."""
