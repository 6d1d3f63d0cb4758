"""The doors: call routes as plain ASGI, the rest on FastAPI."""
