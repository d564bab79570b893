"""From `resume=RUN` or `resume=auto` to a command line that goes on with that run.

Hydra makes the run directory and fills it before any of our code is called, so what belongs to an
earlier run is looked up, and protected, before Hydra starts.
"""

from pathlib import Path
from typing import TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sentiment import cli
from sentiment.config import RunConfig, flatten
from sentiment.errors import UserError
from sentiment.report.run import METRICS, is_locked

REQUESTED, OVERRIDES = Path(".hydra/config.yaml"), Path(".hydra/overrides.yaml")
CACHE = "runtime.cache_dir"
REVIEWS = (
    *("data.path", "data.train", "data.validation", "data.test", "data.unlabelled"),
    "teacher",
)
"""Where the reviews are, and what labels some; hashes tell whether all are still the same."""
EXTENDING = ("trainer.epochs", "trainer.max_skipped_steps")
"""Settings that may be raised when a run goes on."""

Config = TypeVar("Config", bound=RunConfig)


def resolve_resume(job: str, schema: type[Config], arguments: list[str]) -> list[str]:
    """Replace `resume=...` in the arguments of a command by what it stands for.

    Args:
        job: the command that goes on, `train` or `pretrain`.
        schema: of its settings.
        arguments: of the command line, without the program's name.

    Returns:
        Without a run to go on with, the arguments as for a new one. Else the overrides that the
        run was started with, then the given ones, `resume=RUN` and what keeps Hydra in its
        directory.

    Raises:
        UserError: no such run, or a setting that would change its result; or a new run in the
            directory of another.
    """
    given = [a for a in arguments if "=" in a and not a.startswith("-")]
    others = [a for a in arguments if a not in given]
    overrides = _parse(given)
    asked, directory = (_last(overrides, key) for key in ("resume", "hydra.run.dir"))
    if asked is None:
        if directory is not None and _is_run(Path(directory)):
            raise UserError(
                f"hydra.run.dir={directory} holds a run already; go on with it by "
                f"resume={directory}, or choose another directory"
            )
        sweep = _last(overrides, "hydra.sweep.dir")
        sweeps = "-m" in others or "--multirun" in others
        if sweeps and sweep is not None and any(map(_is_run, Path(sweep).glob("*/"))):
            raise UserError(
                f"hydra.sweep.dir={sweep} holds the runs of a sweep already; resume each of them, "
                "or choose another directory"
            )
        return arguments
    if "-m" in others or "--multirun" in others:
        raise UserError("resume goes on with one run, expected no -m; resume each job of a sweep")

    kept = [o for o in overrides if o.key_or_group not in ("resume", "hydra.run.dir")]
    given = _lines(kept)
    if asked == "auto":
        run = _find_unfinished(job, schema, given, directory)
        if run is None:
            print("resume=auto: no unfinished run with these settings, so a new one", flush=True)
            return [*others, *given, *([f"hydra.run.dir={quote(directory)}"] if directory else [])]
    else:
        run = Path(asked).expanduser()
        if not _is_run(run):
            raise UserError(
                f"resume={asked} is no run, expected the directory of one "
                f"(outputs/{job}/DATE/TIME-ID), or auto"
            )
        if directory is not None and Path(directory).absolute() != run.absolute():
            raise UserError(
                f"hydra.run.dir is {directory}, expected nothing with resume={asked}: a run goes "
                "on in its own directory"
            )

    repeated = {"resume", *(o.key_or_group for o in kept)}
    recorded = _parse(list(OmegaConf.load(run / OVERRIDES)))
    before = _lines([o for o in recorded if o.key_or_group not in repeated])
    _require_same_result(job, schema, run, [*before, *given])
    here = [f"resume={quote(run)}", f"hydra.run.dir={quote(run)}", "hydra.output_subdir=null"]
    return [*others, *before, *given, *here]


def extend(requested: Config, saved: RunConfig, run: Path) -> Config:
    """The settings of a checkpoint, with those of the command line that may differ.

    Args:
        requested: by the command line that resumes the run.
        saved: in the run's checkpoint, as they were resolved when the run began.
        run: the run directory.
    """
    schema = type(requested)
    first, again = flatten(load_requested(schema, run)), flatten(requested)
    values = OmegaConf.structured(saved)
    for key in again.keys() & {CACHE, *REVIEWS}:
        # Given anew, or else as the run resolved it: paths were relative to where it began.
        if key == CACHE or again[key] != first[key]:
            OmegaConf.update(values, key, again[key])
    for key in EXTENDING:
        OmegaConf.update(values, key, max(again[key], OmegaConf.select(values, key)))
    return cli.to_dataclass(values, schema)


def quote(value: object) -> str:
    """A value as Hydra's grammar reads it back."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _parse(arguments: list[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(arguments)


def _lines(overrides: list[Override]) -> list[str]:
    return [o.input_line for o in overrides if o.input_line is not None]


def _last(overrides: list[Override], key: str) -> str | None:
    values = [o.value() for o in overrides if o.key_or_group == key]
    return str(values[-1]) if values and values[-1] is not None else None


def _is_run(directory: Path) -> bool:
    return (directory / OVERRIDES).is_file() and (directory / REQUESTED).is_file()


def _find_unfinished(
    job: str, schema: type[Config], overrides: list[str], directory: str | None
) -> Path | None:
    """The newest run with these settings that has no final figures, or the one in `directory`."""
    if directory is not None:
        return Path(directory) if _is_run(Path(directory)) else None
    wanted = _without_places(cli.compose_config(job, schema, overrides))
    root = Path("outputs", job)
    runs = [p.parents[1] for depth in ("*/*", "*/*/*") for p in root.glob(f"{depth}/{REQUESTED}")]
    for run in sorted(runs, key=lambda run: (run / REQUESTED).stat().st_mtime, reverse=True):
        if (run / METRICS).exists() or not _is_run(run):
            continue
        try:
            same = _without_places(load_requested(schema, run)) == wanted
        except UserError:  # of another version
            continue
        if same and not is_locked(run):
            return run
    return None


def _require_same_result(job: str, schema: type[Config], run: Path, overrides: list[str]) -> None:
    asked = flatten(cli.compose_config(job, schema, overrides))
    was = flatten(load_requested(schema, run))
    for name in sorted(asked.keys() - {"resume", CACHE, *REVIEWS}):
        if asked[name] != was[name]:
            if name in EXTENDING and asked[name] > was[name]:
                continue
            allowed = f"{was[name]} or more" if name in EXTENDING else f"{was[name]}"
            raise UserError(
                f"{name} is {asked[name]}, but {run} was started with {was[name]} and its result "
                f"depends on it, expected {allowed}; leave it out, or start a new run"
            )


def load_requested(schema: type[Config], run: Path) -> Config:
    """The settings that a run was started with.

    Raises:
        UserError: they are damaged, or of another version.
    """
    path = run / REQUESTED
    try:
        settings = OmegaConf.load(path)
        assert isinstance(settings, DictConfig)
        return cli.to_dataclass(settings, schema)
    except Exception as error:  # on damaged YAML its libraries raise nearly anything
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{path} holds no settings of this version: {first_line}") from error


def _without_places(config: RunConfig) -> dict[str, object]:
    values = flatten(config)
    return {name: values[name] for name in values if name not in ("resume", CACHE)}
