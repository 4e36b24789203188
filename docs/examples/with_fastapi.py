"""A web service of your own: one address that answers with a WAV file.

pip install fastapi uvicorn
python with_fastapi.py
curl "http://127.0.0.1:8000/say?text=Hello" --output hello.wav

`moss-tts serve` is the ready-made one, with streaming, batching and a page.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response

import moss_tts


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, and give its memory back at the end."""
    with moss_tts.load() as app.state.model:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/say", response_class=Response)
def say(request: Request, text: str, seed: int | None = None) -> Response:
    """Speak a text. FastAPI calls a plain function in a thread, so others are served meanwhile."""
    try:
        speech = request.app.state.model.say(text, seed=seed)
    except moss_tts.RequestError as error:
        raise HTTPException(422, str(error)) from error
    return Response(speech.encode("wav"), media_type="audio/wav")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
