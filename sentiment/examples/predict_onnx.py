"""Label each line of standard input; needs onnxruntime and tokenizers, but no torch."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = Path(__file__).parent
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
model = onnxruntime.InferenceSession(folder / "model.onnx")
about = model.get_modelmeta().custom_metadata_map
labels, threshold = json.loads(about["labels"]), float(about["threshold"])

texts = [line.rstrip("\n") for line in sys.stdin]
by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
found = np.empty(len(texts), np.float32)
for rows in (by_length[start : start + 64] for start in range(0, len(texts), 64)):
    encodings = tokenizer.encode_batch([texts[row] for row in rows])
    ids = np.array([encoding.ids for encoding in encodings], np.int64)
    lengths = np.array([sum(encoding.attention_mask) for encoding in encodings])
    (found[rows],) = model.run(["probability"], {"ids": ids, "lengths": lengths})
for text, probability in zip(texts, found.tolist(), strict=True):
    record = {"label": labels[probability > threshold], "probability": round(probability, 6)}
    print(json.dumps({"text": text} | record))
