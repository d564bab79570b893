"""Hundreds of ways to spoil a checkpoint: each is refused in words, and none does anything else.

The loading happens in a process of its own, this file run as a program: its memory is bounded, and
what it opens, starts and executes is watched.
"""

import functools
import gzip
import io
import json
import math
import os
import pickle
import random
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from sentiment.config import TrainConfig
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.report.card import CARD
from sentiment.text.tokenizer import train_tokenizer
from sentiment.training import checkpoint
from sentiment.training.checkpoint import FILES, load_checkpoint, save_checkpoint
from sentiment.training.folder import MANIFEST, describe, to_json
from sentiment.training.optimizer import build_optimizer
from sentiment.training.state import (
    MOST_BYTES_OF_PROGRESS,
    STATE,
    TENSORS,
    Progress,
    TrainingState,
    load_resumable,
)
from tests.conftest import compose_train

CONFIG = compose_train(
    *("data=sample", "model.layers=1", "model.hidden_size=4", "embeddings.dimension=3"),
    *("model.pooling=[final]", "tokenizer.min_frequency=1"),
)
TOKENIZER = train_tokenizer([["a fine film"]], CONFIG.tokenizer)
WEIGHTS, WORDS, SETTINGS, FIGURES = FILES
CONTENTS = (*FILES, STATE, TENSORS)
MOST_SECONDS, MOST_BYTES = 5.0, 2**30
TERABYTE = 2**40
SECRET = "the words of another file"
Json = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """A way to spoil one file of a checkpoint."""

    kind: str
    name: str
    """Of the file."""
    apply: Callable[[Path], None]


def new_state() -> TrainingState[Classifier]:
    torch.manual_seed(0)
    model = Classifier(nn.Embedding(TOKENIZER.get_vocab_size(), 3), CONFIG.model)
    return TrainingState(
        model, build_optimizer(model, CONFIG.optimizer), Progress(), ("loss", "accuracy")
    )


def write_valid(folder: Path) -> dict[str, bytes]:
    """A checkpoint to resume from; its files' contents by name."""
    state = new_state()
    state.model(torch.tensor([[2], [3]]), torch.tensor([2])).sum().backward()
    state.optimizer.step()
    at = state.progress
    at.epoch = at.update = 1
    at.best = {"validation/accuracy": 0.5, "validation/loss": 0.7, "epoch": 1, "update": 1}
    at.history = [{"epoch": 1, "train/loss": 0.7}]
    at.coverage = {"words": 0.9}
    at.data_sha256 = {"train": "0" * 64}
    at.event_sizes = {"events.out.tfevents.1": 100}
    save_checkpoint(
        folder,
        state.model,
        TOKENIZER,
        CONFIG,
        {"validation/accuracy": 0.5},
        state.files(state.tensors()),
    )
    # Nothing is read from the card, so what the manifest says of it may be anything.
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][CARD]
    _write(folder / MANIFEST, to_json(manifest))
    (folder / CARD).unlink()
    return {name: (folder / name).read_bytes() for name in (*CONTENTS, MANIFEST)}


class Mutations:
    """All of them.

    Args:
        files: contents of a valid checkpoint.
        outside: a folder apart from the checkpoint's.
    """

    def __init__(self, files: dict[str, bytes], outside: Path) -> None:
        self.files, self.outside = files, outside
        self.draw = random.Random(0)

    def __iter__(self) -> Iterator[Mutation]:
        yield from self.bits()
        yield from self.lengths()
        yield from self.swaps()
        yield from self.no_plain_files()
        yield from self.manifests()
        yield from self.executables()
        yield from self.settings()
        yield from self.vocabularies()
        yield from self.figures()
        yield from self.tensors(WEIGHTS, "output.bias")
        yield from self.tensors(TENSORS, "optimizer.output.bias.exp_avg")
        yield from self.generators()
        yield from self.progress()

    def raw(self, kind: str, name: str, content: bytes) -> Mutation:
        """Other contents, under the manifest as it was."""
        return Mutation(kind, name, lambda folder: _write(folder / name, content))

    def sealed(self, kind: str, name: str, content: bytes) -> Mutation:
        """Other contents, and a manifest to match."""

        def apply(folder: Path) -> None:
            _write(folder / name, content)
            manifest = json.loads(self.files[MANIFEST])
            manifest["files"][name] = describe(content)
            _write(folder / MANIFEST, json.dumps(manifest).encode())

        return Mutation(kind, name, apply)

    def bits(self) -> Iterator[Mutation]:
        for name, content in self.files.items():
            for bit in self.draw.sample(range(8 * len(content)), 100 if name == MANIFEST else 25):
                flipped = bytearray(content)
                flipped[bit // 8] ^= 1 << bit % 8
                yield self.raw("a flipped bit", name, bytes(flipped))

    def lengths(self) -> Iterator[Mutation]:
        for name, content in self.files.items():
            for size in (0, 1, len(content) // 2, len(content) - 2):
                yield self.raw("cut off", name, content[:size])
            for more in (b"\0", b"}", content):
                yield self.raw("appended to", name, content + more)

    def swaps(self) -> Iterator[Mutation]:
        def swap(name: str, other: str, folder: Path) -> None:
            _write(folder / other, self.files[name])
            _write(folder / name, self.files[other])

        for name in CONTENTS:
            for other in (*CONTENTS, MANIFEST):
                if other != name:
                    apply = functools.partial(swap, name, other)
                    yield Mutation("swapped with another", name, apply)
                    yield self.sealed("another's contents", name, self.files[other])

    def no_plain_files(self) -> Iterator[Mutation]:
        def resize(size: int, path: Path) -> None:
            os.truncate(path, size)

        def resize_and_say_so(path: Path) -> None:
            os.truncate(path, TERABYTE)
            manifest = json.loads(self.files[MANIFEST])
            manifest["files"][path.name]["size"] = TERABYTE
            _write(path.with_name(MANIFEST), json.dumps(manifest).encode())

        def instead(make: Callable[[Path], None], name: str, folder: Path) -> None:
            (folder / name).unlink()
            make(folder / name)

        (self.outside / "secret").write_text(SECRET)
        makers: dict[str, Callable[[Path], None]] = {
            "missing": lambda path: None,
            "a folder": Path.mkdir,
            "a pipe": os.mkfifo,
            "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
            "a link to a file outside": lambda path: path.symlink_to(self.outside / "secret"),
            "a link to nothing": lambda path: path.symlink_to("nowhere"),
            "a link to itself": lambda path: path.symlink_to(path),
        }
        for name in (*CONTENTS, MANIFEST):
            for kind, make in makers.items():
                yield Mutation(kind, name, functools.partial(instead, make, name))
            for size in (TERABYTE, 100_000_000):
                apply = functools.partial(_at, name, functools.partial(resize, size))
                yield Mutation("a file of zeros", name, apply)
        for name in CONTENTS:
            apply = functools.partial(_at, name, resize_and_say_so)
            yield Mutation("a terabyte that the manifest lists", name, apply)

    def manifests(self) -> Iterator[Mutation]:
        valid: Json = json.loads(self.files[MANIFEST])
        files = valid["files"]

        def edited(value: object) -> Mutation:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            return self.raw("an edited manifest", MANIFEST, content)

        for found in (2, 0, -1, 10**30, 1.5, True, "1", None, [1], {}, "a\nb", "\x1b[2J"):
            yield edited(valid | {"format": found})
        for found in (None, 1, "files", [], {}, list(files), [files], {"files": files}):
            yield edited(valid | {"files": found})
        for found in ([], None, 1, "manifest", [valid], {"format": 1}, {"files": files}):
            yield edited(found)
        for name, entry in files.items():
            size = entry["size"]
            yield edited(valid | {"files": {n: e for n, e in files.items() if n != name}})
            for other in (size + 1, size - 1, 0, -size, 2**63, 10**30, size + 0.5, str(size), None):
                yield edited(valid | {"files": files | {name: entry | {"size": other}}})
            digits = entry["sha256"]
            for other in (digits.upper(), digits[:-1], digits + " ", "", "0" * 64, None, [digits]):
                yield edited(valid | {"files": files | {name: entry | {"sha256": other}}})
            for other in ([entry], {"entry": entry}, entry | {"more": 1}, digits, None, []):
                yield edited(valid | {"files": files | {name: other}})
            for other in (
                *(f"../last/{name}", f"{self.outside}/{name}", f"./{name}", f"a/../{name}"),
                *(f"{name}\0", f" {name}", name.upper(), f"..\\last\\{name}"),
            ):
                renamed = {other if n == name else n: e for n, e in files.items()}
                yield edited(valid | {"files": renamed})
        text = self.files[MANIFEST]
        yield edited(text.replace(b"model", b"\xff\xfe"))
        yield edited(text + b" " * 1_000_000)
        for content in (b"[" * 900_000, b'{"a":' * 150_000, b"9" * 5000, b"[],[],", b"\0", b"PK"):
            yield edited(content)
        yield edited(b"[" + b"[]," * 300_000 + b"[]]")

    def executables(self) -> Iterator[Mutation]:
        canary = self.outside / "canary"
        command = f"touch {canary}"

        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (command,)

        pickled, archive = io.BytesIO(), io.BytesIO()
        torch.save({"output.bias": torch.zeros(1)}, pickled)
        with zipfile.ZipFile(archive, "w") as writer:
            for path in ("../../canary", str(canary), "model.safetensors"):
                writer.writestr(path, b"1")
        for name in CONTENTS:
            for kind, content in (
                ("a pickle", pickled.getvalue()),
                ("a pickle", pickle.dumps(Evil(), protocol=0)),
                ("a pickle", pickle.dumps(Evil())),
                ("an archive", archive.getvalue()),
                ("an archive", gzip.compress(self.files[name])),
                ("a program", f"#!/bin/sh\n{command}\n".encode()),
                ("a program", f"__import__('os').system({command!r})".encode()),
                ("a program", f"!!python/object/apply:os.system [{command!r}]".encode()),
            ):
                yield self.sealed(kind, name, content)

    def settings(self) -> Iterator[Mutation]:
        text = self.files[SETTINGS].decode()
        command = f"touch {self.outside / 'canary'}"
        laughs = "a0: &a0 [lol]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
        )
        for added in (
            *("_target_: os.system\n", "hydra: {}\n", "defaults: [a]\n", "seed: 1\n", "x: 1\n"),
            *("'': 1\n", "1: 1\n", "null: 1\n", "${oc.env:HOME}: 1\n", "a.b: 1\n", "\t\n", "\0"),
            *(f"x: !!python/{tag}\n" for tag in ("name:os.system", "module:os", "none x", "dict")),
            f"x: !!python/object/apply:os.system ['{command}']\n",
            f"x: !!python/object/new:os.system ['{command}']\n",
            *(laughs, "x: &x [1]\ny: *x\n", "x: &x {a: 1}\n<<: *x\n", "x: &x [*x]\n"),
            *("---\nseed: 1\n", "...\nx\n", "x: !!binary x\n", "x: !!set {a}\n", "? [a]\n: b\n"),
            *("{}\n", "[]\n", "'\n", "%YAML 9.9\n", "x: [" * 20, "a\x1b[2Jb: 1\n", "x" * 90_000),
        ):
            yield self.sealed("a hostile configuration", SETTINGS, (text + added).encode())
        for key, values in {
            "seed": ("-1", "1.5", "x", "null", "[0]", "{}", "???", str(2**32), "9" * 5000, ".nan"),
            "layers": ("0", "-1", "2", "100", "101", "1e9", "null", "x", "[1]"),
            "hidden_size": ("0", "-4", "5", "100000", "100001", str(10**30), "null", "4.5", "x"),
            "dimension": ("0", "-3", "4", "100000", "100001", "null", "x", "[3]"),
            "dropout": ("1", "-0.1", ".nan", ".inf", "x", "null", "[]"),
            "epochs": ("0", "-1", "x", "null", "1.5"),
            "learning_rate": ("0", "-1", ".nan", "x", "null"),
            "validation_fraction": ("0", "1", ".nan", "x"),
            "vocabulary_size": ("0", "-1", str(10**9), "x"),
            "keep": ("0", "-1", "1001", "x"),
            "source": ("imbd", "[]", "os.system", "1"),
            "path": ("${oc.env:HOME}", "'${oc.decode:1}'", "${seed}", "'a${oc.env:HOME}'", "[]"),
            "pos_weight": ("0", "-1", ".nan", "x", "null", "__import__('os')"),
        }.items():
            line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
            spaces = line[: len(line) - len(line.lstrip())]
            for value in values:
                content = text.replace(line, f"{spaces}{key}: {value}", 1).encode()
                yield self.sealed("a hostile configuration", SETTINGS, content)
        huge = text.replace("hidden_size: 4", "hidden_size: 100000")
        huge = huge.replace("layers: 1", "layers: 100").replace("dimension: 3", "dimension: 100000")
        pooling = text.replace("- final", "- final\n  - attention")
        for content in (huge.encode(), pooling.encode(), text.replace("- final", "[]").encode()):
            yield self.sealed("a hostile configuration", SETTINGS, content)
        for content in (
            *(b"[" * 99_999, b"{" * 99_999, b"[{" * 49_999, b"- " * 49_999, b"? " * 49_999),
            *(b"[" + b"[]," * 33_000 + b"]", b"".join(b"k%d: 1\n" % n for n in range(9000))),
            *(b"[" * 1_000_000, b"seed: " + b":".join([b"59"] * 33_000)),
            *(b"", b"null", b"[]", b"1", b"x", b"---\n" * 24_000, b"\xff\xfe", b"&a " * 30_000),
            b"'" + b"a\n" * 49_000 + b"'",
        ):
            yield self.sealed("a hostile configuration", SETTINGS, content)

    def vocabularies(self) -> Iterator[Mutation]:
        valid: Json = json.loads(self.files[WORDS])
        model, vocabulary = valid["model"], valid["model"]["vocab"]
        last = max(vocabulary, key=vocabulary.__getitem__)
        fewer = {word: index for word, index in vocabulary.items() if word != last}
        values: list[object] = [
            *([], None, 1, "tokenizer", {}, valid | {"model": None}, valid | {"model": {}}),
            *(valid | {"version": "9"}, valid | {"normalizer": {"type": "Evil"}}),
            valid | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
            valid | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}},
            *(valid | {"model": model | {"type": kind}} for kind in ("Evil", None, 1)),
            valid | {"model": model | {"unk_token": "<none>"}},
        ]
        others = [fewer, {}, [], None, vocabulary | {"new": 2**32 - 1}]
        others += [vocabulary | {last: index} for index in (99, -1, 2**32, 1.5)]
        values += [valid | {"model": model | {"vocab": other}} for other in others]
        for value in values:
            yield self.sealed("a hostile tokenizer", WORDS, json.dumps(value).encode())
        for content in (b"", b"\xff\xfe", b"[" * 1_000_000, b'{"model":' * 100_000, b"9" * 5000):
            yield self.sealed("a hostile tokenizer", WORDS, content)

    def figures(self) -> Iterator[Mutation]:
        for value in (
            [],
            None,
            1,
            "x",
            {"a": None},
            {"a": "1"},
            {"a": [1]},
            {"a": True},
            {"a": {}},
        ):
            yield self.sealed("hostile figures", FIGURES, json.dumps(value).encode())
        for content in (
            b"",
            b"\xff",
            b"[" * 99_999,
            b'{"a":' * 19_000,
            b"9" * 5000,
            b"{}" * 60_000,
        ):
            yield self.sealed("hostile figures", FIGURES, content)

    def tensors(self, name: str, one: str) -> Iterator[Mutation]:
        content = self.files[name]
        size = int.from_bytes(content[:8], "little")
        header: Json = json.loads(content[8 : 8 + size])
        text, data, entry = content[8 : 8 + size], content[8 + size :], header[one]

        def sealed(
            changed: Json | bytes, data: bytes = data, length: int | None = None
        ) -> Mutation:
            text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
            prefix = struct.pack("<Q", len(text) if length is None else length)
            return self.sealed("hostile tensors", name, prefix + text + data)

        for length in (0, 1, size - 1, size + 1, len(content), TERABYTE, 2**63, 2**64 - 1):
            yield sealed(text, length=length)
        for changed in ({}, b"", b"[]", b"null", b"[" * 900_000, b'{"a":' * 180_000, b"\xff" * 9):
            yield sealed(changed)
        for shape in (
            *([], [0], [2], [1, 1], [TERABYTE], [2**32, 2**32], [2**63], [-1], [1.5], ["1"]),
            *([0, 2**63], [0, 2**64 - 1], [0, 10**30], None, 1, "x", [1] * 50_000, [[1]]),
        ):
            yield sealed(header | {one: entry | {"shape": shape}})
            if isinstance(shape, list) and 0 in shape:
                yield sealed(header | {one: entry | {"shape": shape, "data_offsets": [0, 0]}})
                yield sealed(
                    header | {"new": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
                )
        start, end = entry["data_offsets"]
        for offsets in (
            *([0, 0], [start, end + 4], [end, start], [start, TERABYTE], [TERABYTE, TERABYTE + 4]),
            *([-4, 0], [2**63, 2**63 + 4], [start], [], None, [start + 0.5, end]),
        ):
            yield sealed(header | {one: entry | {"data_offsets": offsets}})
        for kind in ("F64", "F16", "BF16", "I32", "U32", "F4", "F8_E8M0", "f32", "O", "", None, 1):
            yield sealed(header | {one: entry | {"dtype": kind}})
        for kind in ("F4", "F6_E2M3", "F8_E8M0"):
            yield sealed(header | {"new": {"dtype": kind, "shape": [0], "data_offsets": [0, 0]}})
        yield sealed({n: e for n, e in header.items() if n != one})
        for other in ("new", "", "../x", "a\nb", "\x1b[2J", "x" * 100_000, one.upper()):
            yield sealed({other if n == one else n: e for n, e in header.items()})
            yield sealed(header | {other: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})
        yield sealed(header | {"__metadata__": {"a": 1}})
        yield sealed(text, data[:-4])
        yield sealed(text, data + b"\0\0\0\0")
        yield sealed(text, b"")

        valid = safetensors.torch.load(content)
        for changes in (
            *({one: torch.full_like(valid[one], value)} for value in (math.nan, math.inf)),
            *({one: valid[one].to(kind)} for kind in (torch.float64, torch.float16, torch.int32)),
            *({one: valid[one].reshape(*shape)} for shape in ((1, -1), (-1, 1, 1))),
            *({"new": torch.zeros(shape)} for shape in (1, 0, 1000)),
            {one: torch.zeros(1000)},
        ):
            yield self.sealed("hostile tensors", name, safetensors.torch.save(valid | changes))

    def generators(self) -> Iterator[Mutation]:
        valid = safetensors.torch.load(self.files[TENSORS])
        for value in (0, 1, 255):
            changed = {"generator.cpu": torch.full_like(valid["generator.cpu"], value)}
            content = safetensors.torch.save(valid | changed)
            yield self.sealed("a generator's state that is none", TENSORS, content)

    def progress(self) -> Iterator[Mutation]:
        valid: Json = json.loads(self.files[STATE])
        event, best = "events.out.tfevents.1", valid["best"]
        changes: list[Json] = [
            {counter: value}
            for counter in ("epoch", "batch", "update", "epochs_without_gain")
            for value in (-1, 2**31 + 1, 2**63, 10**30, 1.5, 1.0, "1", None, True, [], math.nan)
        ]
        names = ("../../x", "/etc/passwd", f"{event}/../../x", f"../{event}", f"/tmp/{event}")
        changes += [{"event_sizes": {name: 1}} for name in names]
        sizes = (-1, 1.5, "1", None, True, math.nan, [1])
        changes += [{"event_sizes": {event: size}} for size in sizes]
        for rows in (None, {}, 1, "x", [1], [[]], [None], ["x"]):
            changes += [{"history": rows}, {"faults": rows}]
        for figure in (math.nan, math.inf, -math.inf, "x", None, True, [1], {}, 10**400):
            changes.append({"history": [{"epoch": figure}]})
            changes.append({"best": best | {"validation/accuracy": figure}})
            changes.append({"coverage": {"words": figure}})
        changes.append({"history": [{"epoch": 1}, {"update": 1}]})
        for values in (None, [], 1, "x", ["a"], [["a", 1]]):
            changes += [{name: values} for name in ("data_sha256", "event_sizes", "coverage")]
        changes += [{"best": {"epoch": 1}}, {"best": []}, {"data_sha256": {"train": 1}}]
        changes += [{"update": 0}, {"more": 1}, {"a\nb": 1}, {"\x1b[2J": 1}, {"__class__": "x"}]
        for change in changes:
            content = json.dumps(valid | change).encode()
            yield self.sealed("a hostile training state", STATE, content)
        for name in valid:
            content = json.dumps({n: v for n, v in valid.items() if n != name}).encode()
            yield self.sealed("a hostile training state", STATE, content)
        for content in (
            *(b"", b"[]", b"null", b"1", b"{}", b"\xff\xfe", b"9" * 5000, b"\0" * 100),
            *(b"[" * 1_000_000, b'{"epoch":' * 100_000, b'{"epoch": 1e999}'),
            b"[" + b"{}," * (MOST_BYTES_OF_PROGRESS // 3 - 2) + b"1]",
            self.files[STATE] + b" " * MOST_BYTES_OF_PROGRESS,
        ):
            yield self.sealed("a hostile training state", STATE, content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _at(name: str, action: Callable[[Path], None], folder: Path) -> None:
    action(folder / name)


class Watch:
    """What the process does beside computing, while it is `on`."""

    FORBIDDEN = (
        *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
        *("pickle.find_class", "socket.connect", "socket.getaddrinfo"),
        *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.symlink", "os.link"),
    )
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __init__(self, folder: Path) -> None:
        self.on = False
        self.seen: list[str] = []
        code = (os.path.realpath(os.path.dirname(os.__file__)), *sys.path)
        self.code = (*(os.path.join(path, "") for path in code if path), "<frozen ")
        self.readable = (*self.code, str(folder))
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = args
            allowed = not flags & self.WRITING and os.fsdecode(path).startswith(self.readable)
        elif event == "exec":
            allowed = args[0].co_filename.startswith(self.code)
        elif event == "compile":
            allowed = args[1] is not None and os.fsdecode(args[1]).startswith(self.code)
        else:
            allowed = event not in self.FORBIDDEN
        if not allowed:
            self.seen.append(f"{event} {args!r:.200}")


class TooSlow(BaseException):
    pass


def _remembered(function: Callable[[bytes, Path], TrainConfig]) -> Callable[..., TrainConfig]:
    """The function, called once for the same arguments, whether it returns or raises."""
    known: dict[tuple[bytes, Path], TrainConfig | UserError] = {}

    def call(content: bytes, path: Path) -> TrainConfig:
        if (content, path) not in known:
            try:
                known[content, path] = function(content, path)
            except UserError as error:
                known[content, path] = error
        found = known[content, path]
        if isinstance(found, UserError):
            raise UserError(str(found))
        return found

    return call


def _check(folder: Path, name: str) -> Iterator[str]:
    """What is wrong with the way in which a spoilt file is refused, or not."""
    try:
        load_checkpoint(folder).build_model()
        if name in FILES:
            yield "loaded"
    except UserError as error:
        yield from _faults_of(str(error), folder)
    try:
        saved = load_resumable(folder)
        assert saved is not None
        state = new_state()
        state.progress = saved.progress
        state.restore(saved)
        yield "resumed"
    except UserError as error:
        yield from _faults_of(str(error), folder)


def _faults_of(message: str, folder: Path) -> Iterator[str]:
    if not message.isprintable() or len(message) > 1000:
        yield f"no line to print: {message!r:.1100}"
    if str(folder) not in message or not any(name in message for name in (*CONTENTS, MANIFEST)):
        yield f"names no file: {message}"
    if SECRET in message:
        yield f"tells a secret: {message}"


def main(root: Path) -> None:
    """Load every mutation; what was found goes to standard output, as JSON."""
    import logging
    import resource

    logging.disable()
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    # Parsing a configuration takes most of the time, and both doors do it.
    checkpoint._parse_config = _remembered(checkpoint._parse_config)

    folder, outside = root / "last", root / "outside"
    outside.mkdir()
    files = write_valid(folder)
    _restore(folder, files)
    mutations = list(Mutations(files, outside))
    assert list(_check(folder, "")) == ["resumed"], "the checkpoint is no valid one"

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    watch = Watch(folder)
    statm = Path("/proc/self/statm")
    if statm.exists():
        address_space = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (address_space + MOST_BYTES,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    faults, slowest = [], 0.0
    for number, mutation in enumerate(mutations):
        counts[mutation.kind] += 1
        mutation.apply(folder)
        started = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        watch.on = True
        try:
            found = list(_check(folder, mutation.name))
        except BaseException as error:
            found = [f"{type(error).__name__}: {error}"]
        watch.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.perf_counter() - started)
        faults += [f"{number}, {mutation.kind}, {mutation.name}: {fault}" for fault in found]
        _restore(folder, files)
    assert list(_check(folder, "")) == ["resumed"], "the checkpoint was not put back"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        json.dumps(
            {
                "faults": faults,
                "watched": watch.seen,
                "left": sorted(path.name for path in (*root.iterdir(), *outside.iterdir())),
                "slowest": slowest,
                "bytes": grown * (1 if sys.platform == "darwin" else 1024),
                "counts": counts,
            }
        )
    )


def _restore(folder: Path, files: dict[str, bytes]) -> None:
    """Write anew what was touched: all else bears the time 0."""
    for name, content in files.items():
        path = folder / name
        status = path.lstat() if os.path.lexists(path) else None
        if status is not None:
            if status.st_mtime_ns == 0:
                continue
            if stat.S_ISDIR(status.st_mode):
                path.rmdir()
            else:
                path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))


@pytest.mark.slow
def test_every_mutation_is_refused_in_words_and_does_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root), "RUST_BACKTRACE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    print(json.dumps({name: report[name] for name in ("counts", "slowest", "bytes")}, indent=2))
    assert report["faults"] == []
    assert report["watched"] == []
    assert report["left"] == ["last", "outside", "secret"]
    assert report["slowest"] < MOST_SECONDS
    assert report["bytes"] < MOST_BYTES
    assert sum(report["counts"].values()) >= 500


if __name__ == "__main__":
    main(Path(sys.argv[1]))
