"""The HTTP API: a FastAPI app that BentoML hosts. One file a resource."""
