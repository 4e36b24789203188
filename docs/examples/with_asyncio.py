"""An async program: the event loop goes on while two texts are spoken.

python with_asyncio.py
"""

import asyncio

import moss_tts


async def speak(model: moss_tts.Model, name: str, text: str) -> None:
    """Print each part as it comes, then write all of them."""
    parts = []
    async for part in model.generate_async(text, stream=True, seed=1):
        print(f"{name}: {part.audio_duration}")
        parts.append(part)
    moss_tts.write_audio(f"{name}.wav", parts)


async def main() -> None:
    """Two voices at a time, and a clock that goes on beside them."""
    model = await asyncio.to_thread(moss_tts.load)
    ticks: list[float] = []
    clock = asyncio.create_task(tick(ticks))
    await asyncio.gather(
        speak(model, "left", "I speak, and so does the other one"),
        speak(model, "right", "We take turns, row by row"),
    )
    clock.cancel()
    print(f"The clock ticked {len(ticks)} times meanwhile.")


async def tick(ticks: list[float]) -> None:
    """Note the time a hundred times a second, which only a free event loop can do."""
    while True:
        await asyncio.sleep(0.01)
        ticks.append(asyncio.get_running_loop().time())


asyncio.run(main())
