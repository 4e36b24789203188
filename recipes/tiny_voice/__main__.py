"""python -m recipes.tiny_voice STAGE --state DIR: the stages of the recipe, each of which resumes. See README.md."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from . import checkpoint, codec, model
from .alignment import write_alignment
from .codec import Codec, codec_config
from .curves import plot
from .data import buzz, synthesise, write_shard
from .export import export, export_codec
from .model import LocalModel, local_config
from .prompt import RowWriter
from .speakers import SPEAKERS
from .teachers import Reading
from .texts import COUNTS, Counts, held_out, write_texts
from .tokenizer import save_tokenizer, special_ids, train_tokenizer
from .train_codec import CodecPlan, train_codec
from .train_model import ModelPlan, train_model, write_codes

LOADERS = 6  # processes that prepare batches: a GPU waits for one
SMOKE_TEXTS = ["Hello there, how are you?", "It is raining.", "Two cats sat on a mat.", "Good morning!"]


@dataclass(frozen=True)
class Settings:
    """What to run and where; plans hold everything else."""

    state: Path
    codec: CodecPlan
    model: ModelPlan
    wordnet: Path | None
    counts: Counts = COUNTS
    vocab: int = 512
    workers: int = 1
    sentences: int = 20
    smoke: bool = False

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def lists(self) -> list[Path]:
        return sorted((self.state / "texts").glob("*.txt"))

    @property
    def lines(self) -> list[str]:
        """All lists, end to end."""
        return [line for path in self.lists for line in path.read_text().splitlines()]


def texts_stage(s: Settings) -> None:
    if not s.lists:  # the shards' texts must stay what they were
        write_texts(s.state / "texts", s.wordnet, s.counts)


def data_stage(s: Settings) -> None:
    if s.smoke:
        return smoke_data(s)
    synthesise(SPEAKERS, s.lines, s.data, s.workers)


def audition_stage(s: Settings) -> None:
    """Every speaker's error rate, quality and likeness, on sentences that are held out."""
    from .audition import audition_all

    sentences = [text for text in held_out() if 30 < len(text) < 80]
    audition_all(SPEAKERS, sentences[:: len(sentences) // s.sentences][: s.sentences], s.state / "audition.json")


def smoke_data(s: Settings) -> None:
    """Two speakers' shards of synthetic sound: the smoke run does not need the teachers."""
    for number, name in enumerate(("low", "high")):
        waves = {text: buzz(0.5 + 0.2 * n, n, 1 + number) for n, text in enumerate(SMOKE_TEXTS)}
        write_shard(SMOKE_TEXTS, s.data / name / "00000.npy", lambda text, found=waves: Reading(found[text], [], []))


def codec_stage(s: Settings) -> None:
    train_codec(s.data, s.state, s.codec)


def tokenizer_stage(s: Settings) -> None:
    save_tokenizer(train_tokenizer(SMOKE_TEXTS if s.smoke else s.lines, s.vocab), s.state / "tokenizer")


def codes_stage(s: Settings) -> None:
    write_codes(trained_codec(s), s.data, s.state, s.codec.device)


def align_stage(s: Settings) -> None:
    write_alignment(s.state, s.data)


def model_stage(s: Settings) -> None:
    train_model(s.state, tokenizer(s), codec_config(s.codec.sizes), s.model)


def plot_stage(s: Settings) -> None:
    for curve in s.state.glob("*.jsonl"):
        plot(curve, curve.with_suffix(".png"))


def listen_stage(s: Settings) -> None:
    """Error rates on held-out sentences: the teacher's audio through the codec, then the model's own."""
    from .listen import listen_to_codec, listen_to_model

    texts = held_out()[: s.sentences]
    listen_to_codec(trained_codec(s), texts, SPEAKERS, s.state)
    if (s.state / "model").exists():
        writer = RowWriter(tokenizer(s), s.codec.sizes.codebook_size)
        listen_to_model(trained_model(s), trained_codec(s), writer, texts, s.state)


def export_stage(s: Settings) -> None:
    if (s.state / "model").exists():
        return export(trained_codec(s), trained_model(s), tokenizer(s), s.state / "checkpoint")
    export_codec(trained_codec(s), s.state / "checkpoint" / "audio_tokenizer")


def slim_stage(s: Settings) -> None:
    """The networks' weights alone, without what only a resumed run needs: a third of the size, for a transfer."""
    checkpoint.slim(s.state / "codec", s.state / "slim" / "codec", "codec")
    if (s.state / "model").exists():
        checkpoint.slim(s.state / "model", s.state / "slim" / "model", "model")


def tokenizer(s: Settings) -> Tokenizer:
    return Tokenizer.from_file(str(s.state / "tokenizer" / "tokenizer.json"))


def trained_codec(s: Settings) -> Codec:
    made = Codec(codec_config(s.codec.sizes))
    checkpoint.demand(s.state / "codec", {"codec": made})
    return made.eval()


def trained_model(s: Settings) -> LocalModel:
    words = tokenizer(s)
    config = local_config(s.model.sizes, special_ids(words), words.get_vocab_size(), s.codec.sizes.codebook_size)
    made = LocalModel(config)
    checkpoint.demand(s.state / "model", {"model": made})
    return made.eval()


STAGES = {
    "texts": texts_stage,
    "audition": audition_stage,
    "data": data_stage,
    "codec": codec_stage,
    "tokenizer": tokenizer_stage,
    "codes": codes_stage,
    "align": align_stage,
    "model": model_stage,
    "plot": plot_stage,
    "listen": listen_stage,
    "slim": slim_stage,
    "export": export_stage,
}


def smoke_settings(s: Settings) -> Settings:
    """Everything tiny: the whole recipe in seconds, to see that it runs."""
    return replace(
        s,
        codec=replace(
            s.codec, sizes=codec.SMOKE, steps=6, batch=2, frames=4, heard=2, open_until=3, adversary_from=4, log_every=1
        ),
        model=replace(s.model, sizes=model.SMOKE, steps=3, rows=512, pool=16, log_every=1),
        vocab=340,
        smoke=True,
    )


def parse(argv: list[str] | None) -> tuple[list[str], Settings]:
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_voice", description=__doc__)
    parser.add_argument(
        "stages", nargs="+", choices=[*STAGES, "all"], metavar="STAGE", help=", ".join(STAGES) + ", all"
    )
    parser.add_argument("--state", type=Path, required=True, help="where everything is kept, outside the repository")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes and synthetic sound")
    parser.add_argument("--wordnet", type=Path, help="folder with WordNet's data.noun and so on")
    parser.add_argument("--workers", type=int, default=1, help="processes of the data stage")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop training after this long; resume later")
    parser.add_argument("--steps", type=int, help="steps of the training stage; also sets its learning-rate course")
    parser.add_argument("--batch", type=int, help="codec: crops a step; model: rows a step")
    parser.add_argument("--frames", type=int, default=16, help="codec: length of a crop")
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--adversary-from", type=int, default=10**9, help="codec: the step at which critics join")
    parser.add_argument("--finish", action="store_true", help="model: the rate has fallen when --minutes are over")
    parser.add_argument("--ranks", type=int, default=1, help="how many processes train together")
    parser.add_argument("--rank", type=int, default=0, help="which of them this is")
    parser.add_argument("--joined", type=float, default=0.1, help="model: share of lessons of two or three sentences")
    parser.add_argument("--referred", type=float, default=0.25, help="model: share of lessons with a reference")
    parser.add_argument("--sentences", type=int, default=20, help="held-out sentences to listen to")
    a = parser.parse_args(argv)
    torch.set_flush_denormal(True)  # else the first minutes of a network are slow on a CPU
    if a.threads:
        torch.set_num_threads(a.threads)
    common = {"minutes": a.minutes, "device": a.device, "loaders": LOADERS if a.device == "cuda" else 0}
    common |= {"steps": a.steps} if a.steps else {}
    common |= {"rate": a.rate} if a.rate else {}
    common |= {"rank": a.rank, "ranks": a.ranks}
    sized = {"batch": a.batch} if a.batch else {}
    codec_plan = CodecPlan(**common, **sized, frames=a.frames, adversary_from=a.adversary_from)
    sized = {"rows": a.batch} if a.batch else {}
    model_plan = ModelPlan(**common, **sized, joined=a.joined, referred=a.referred, finish=a.finish)
    settings = Settings(a.state, codec_plan, model_plan, a.wordnet, workers=a.workers, sentences=a.sentences)
    stages = [*STAGES] if "all" in a.stages else a.stages
    if a.smoke:
        settings, stages = smoke_settings(settings), [s for s in stages if s not in ("texts", "audition", "listen")]
    return stages, settings


def main(argv: list[str] | None = None) -> None:
    stages, settings = parse(argv)
    for stage in stages:
        STAGES[stage](settings)


if __name__ == "__main__":
    main()
