"""A language model is heard while it writes: its answer goes into a session of `moss-tts serve`, piece by piece.

pip install openai websockets
moss-tts serve                                                   # in another terminal
python chat_aloud.py "Tell me a story." --chat http://127.0.0.1:11434/v1 --model llama3.2    # Ollama, for instance
"""

import argparse
import asyncio
import json
import os
import wave

from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect


async def write(socket: ClientConnection, chat: AsyncOpenAI, model: str, question: str) -> None:
    """Pass the answer on as it is written."""
    messages = [{"role": "user", "content": question}]
    async for part in await chat.chat.completions.create(model=model, messages=messages, stream=True):
        text = part.choices[0].delta.content if part.choices else None
        if text:
            print(text, end="", flush=True)
            await socket.send(json.dumps({"type": "input.text", "turn_id": "answer", "text": text}))
    await socket.send(json.dumps({"type": "input.done", "turn_id": "answer"}))


async def listen(socket: ClientConnection, path: str) -> None:
    """Write the sound as it comes; a player would take it in the same way."""
    with wave.open(path, "wb") as file:
        async for message in socket:
            if isinstance(message, bytes):
                file.writeframes(message)
                continue
            event = json.loads(message)
            if event["type"] == "audio.start":
                file.setparams((event["channels"], 2, event["sample_rate"], 0, "NONE", ""))
            elif event["type"] == "error":
                raise SystemExit(event["message"])
            elif event["type"] == "turn.done":
                print(f"\n{path}: {event['reason']}")
                return


async def main() -> None:
    """One question, one answer; another turn.start in the same session would go on from it."""
    options = argparse.ArgumentParser()
    options.add_argument("question")
    options.add_argument("--chat", default="https://api.openai.com/v1", help="the address of a chat server")
    options.add_argument("--model", default="gpt-4o-mini", help="the model of the chat")
    options.add_argument("--speech", default="ws://127.0.0.1:8000", help="the address of moss-tts serve")
    options.add_argument("--voice", default="default", help="a voice of moss-tts serve")
    options.add_argument("--output", default="answer.wav")
    given = options.parse_args()
    key = os.environ.get("MOSS_TTS_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    chat = AsyncOpenAI(base_url=given.chat, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    async with connect(f"{given.speech}/v1/audio/speech/realtime", additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "session.config", "voice": given.voice, "seed": 1}))
        await socket.send(json.dumps({"type": "turn.start", "turn_id": "answer"}))
        await asyncio.gather(write(socket, chat, given.model, given.question), listen(socket, given.output))


asyncio.run(main())
