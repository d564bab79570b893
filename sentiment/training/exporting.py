"""A checkpoint as a folder that runs without this project: model, tokenizer, card, an example."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sentiment import examples
from sentiment.config import THRESHOLD
from sentiment.errors import UserError
from sentiment.report.card import CARD, model_card
from sentiment.text.tokenizer import PAD_ID, unknown_id
from sentiment.training.checkpoint import Checkpoint
from sentiment.training.folder import one_line, sync_folder, write_synced
from sentiment.training.predictor import SentimentPredictor

TOLERANCE = 1e-4
"""Of a probability."""
PROBES = (
    "A moving film with a wonderful cast, and one of the best I have seen in years.",
    "The plot is dull, the acting is awful, and it is far too long. Don't waste your time!",
    "I had been told it was dreadful; it is anything but. " * 100,
    "Not bad<br /><br />... but \u201cgreat\u201d? No &amp; never\u2026",
    "\u540d\u4f5c \u043a\u0438\u043d\u043e \u00fcnkn\u00f6wn",
    "no",
    "\u200b",  # no token at all
)
WORDS = 500
"""Of the vocabulary, which make up one more probe."""
TOKENIZER, EXAMPLE = "tokenizer.json", "predict.py"


class Format(Enum):
    """What the model is exported as."""

    onnx = "onnx"
    torch = "torch"


FILES = {Format.onnx: "model.onnx", Format.torch: "model.pt2"}
LIBRARIES = {Format.onnx: "`onnxruntime`", Format.torch: "`torch`"}
USE = """\
`predict.py` labels the lines of its standard input and shows how to load what is here. It needs
{library} and `tokenizers`:

```bash
python predict.py < lines.txt
```

- `{model}` reads `ids`, int64 `[batch, time]`, the tokens of each text, padded to the longest, and
  `lengths`, int64 `[batch]`, how many they are. It gives the `logit` and the `probability` of the
  label 1, float32 `[batch]`. Batch and time are free. What stands past a length is not read, and a
  text of no tokens is read as one unknown token.
- `tokenizer.json` cleans, splits, truncates and pads; no special tokens are added.
- The names of the labels and the threshold are in the metadata of `{model}`."""


def export_checkpoint(
    predictor: SentimentPredictor, format: Format, output: Path, data_sha256: Mapping[str, str]
) -> float:
    """Write an export that is whole and gives the probabilities of its checkpoint, or none.

    Args:
        predictor: of the checkpoint, on the CPU in float32.
        format: of the model.
        output: the folder to make.
        data_sha256: hash of each split, as far as it is known, for the card.

    Returns:
        The largest difference of a probability over the texts of the check.

    Raises:
        UserError: there is something at `output`, or the export differs from its checkpoint.
        OSError: it cannot be written.
    """
    if output.exists():
        raise UserError(f"--output {output} is there already, expected the name of a new folder")
    checkpoint = predictor.checkpoint
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, content in _contents(checkpoint, format, data_sha256).items():
            write_synced(partial / name, content)
        difference = largest_difference(predictor, partial, _probes(checkpoint))
        if not difference <= TOLERANCE:
            raise UserError(
                f"the export of {checkpoint.folder} gives probabilities that are {difference:g} "
                f"from its own, expected {TOLERANCE:g} at most; it was not kept"
            )
        sync_folder(partial)
        partial.rename(output)
        sync_folder(output.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return difference


def largest_difference(predictor: SentimentPredictor, export: Path, texts: Sequence[str]) -> float:
    """How far an export's probabilities of some lines are from those of the checkpoint.

    Its own example computes them, in a process of its own. NaN where one of its probabilities is.

    Raises:
        UserError: the example fails.
    """
    done = subprocess.run(
        [sys.executable, export / EXAMPLE],
        input="".join(f"{text}\n" for text in texts).encode(),
        capture_output=True,
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
    if done.returncode != 0:
        error = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"the exported {EXAMPLE} fails: {one_line(error)}")
    found: list[float] = [json.loads(line)["probability"] for line in done.stdout.splitlines()]
    pairs = zip(found, predictor(texts), strict=True)
    return float(np.max([abs(mine - theirs) for mine, (_, theirs) in pairs if theirs is not None]))


def standalone_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer with truncation and padding of its own, and without special tokens."""
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer.to_str())
    tokenizer.post_processor = None
    tokenizing = checkpoint.config.tokenizer
    if tokenizing.max_length is not None:
        side = tokenizing.truncation_side.value
        tokenizer.enable_truncation(tokenizing.max_length, direction=side)
    tokenizer.enable_padding(pad_id=PAD_ID, pad_token=tokenizer.id_to_token(PAD_ID) or "")
    return tokenizer


def _contents(
    checkpoint: Checkpoint, format: Format, data_sha256: Mapping[str, str]
) -> dict[str, bytes]:
    model, unknown = checkpoint.build_model().eval(), unknown_id(checkpoint.tokenizer)
    metadata = {
        "labels": json.dumps(checkpoint.label_names),
        "threshold": str(THRESHOLD),
    }
    if format is Format.onnx:
        from sentiment.model.onnx import onnx_model

        content = onnx_model(model, unknown, metadata).SerializeToString()
    else:
        from sentiment.model.program import torch_program

        content = torch_program(model, unknown, metadata)
    use = USE.format(model=FILES[format], library=LIBRARIES[format])
    card = model_card(checkpoint.config, checkpoint.metrics, data_sha256, use)
    example = Path(examples.__file__).with_name(f"predict_{format.value}.py")
    return {
        FILES[format]: content,
        TOKENIZER: standalone_tokenizer(checkpoint).to_str(pretty=True).encode(),
        EXAMPLE: example.read_bytes(),
        CARD: card.encode(),
    }


def _probes(checkpoint: Checkpoint) -> list[str]:
    words = sorted(checkpoint.tokenizer.get_vocab())
    # In one line, whatever stands in a token.
    return [*PROBES, " ".join(" ".join(words[:: len(words) // WORDS + 1]).split())]
