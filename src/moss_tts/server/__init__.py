"""An HTTP server that speaks: OpenAI's routes, voices, a page. Needs the extra `server`."""
