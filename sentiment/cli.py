"""From a command line to a validated configuration, and from a mistake to one line and code 2."""

import contextlib
import difflib
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from sentiment.config import EvaluateConfig, RunConfig, TrainConfig
from sentiment.errors import Interrupted, UserError
from sentiment.report.run import ENVIRONMENT, LOCK, lock

Config = TypeVar("Config", bound=RunConfig | EvaluateConfig)

PACKAGE = Path(__file__).parent
# A wheel carries conf/ inside the package, a checkout has it beside.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def register(name: str, schema: type) -> None:
    """Make a schema, and the resolver that keeps run directories apart, known to Hydra."""
    store = ConfigStore.instance()
    store.store(f"{name}_schema", schema)
    # Hydra copies all that it knows, its own schemas among it, a hundred times for `--help` and
    # never changes a copy.
    vars(store)["__deepcopy__"] = lambda _: store
    OmegaConf.register_new_resolver(
        "short_id", lambda: secrets.token_hex(2), use_cache=True, replace=True
    )


def run(
    job: Callable[[Config, Path], None],
    name: str,
    schema: type[Config],
    resolve: Callable[[list[str]], list[str]] = list,
) -> None:
    """Compose the configuration from the command line and run the job, once per job of a sweep.

    Args:
        job: is given the configuration as dataclasses, and the run directory.
        name: of the file in `conf/`.
        schema: what the configuration is checked against.
        resolve: is given the command line before Hydra is, and returns the one to use.

    Raises:
        SystemExit: code 2 after one line on standard error where the user's input is at fault,
            130 after Ctrl-C, 143 after SIGTERM. With `HYDRA_FULL_ERROR=1` the exception itself is
            raised.
    """
    register(name, schema)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")
    has_config = False

    def start(settings: DictConfig) -> None:
        nonlocal has_config
        directory = Path(HydraConfig.get().runtime.output_dir)
        try:
            held = lock(directory)
        except UserError as error:
            _exit(explain(error, schema))
        try:
            config = to_dataclass(settings, schema)
            has_config = True
            job(config, directory)
        except Interrupted as stop:
            name = signal.Signals(stop.number).name
            print(f"{name}: saved; resume={directory} goes on from here", file=sys.stderr)
            sys.exit(128 + stop.number)
        except (UserError, OmegaConfBaseException, OSError) as error:
            is_new = OmegaConf.select(settings, "resume") is None
            if is_new and not (directory / ENVIRONMENT).exists():
                _take_back(directory)
            if full_error == "1":
                raise
            _exit(explain(error, schema))
        finally:
            held.release()

    # Without this Hydra prints what goes wrong in its own way and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        sys.argv[1:] = resolve(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(start)()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if has_config or full_error == "1":
            raise
        _exit(explain(error, schema))
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full_error


def compose_config(name: str, schema: type[Config], overrides: list[str]) -> Config:
    """The settings that these overrides of a command stand for.

    Raises:
        UserError: an override that cannot be used.
    """
    register(name, schema)
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return to_dataclass(compose(name, overrides), schema)
    except Exception as error:
        raise UserError(explain(error, schema)) from error


def compose_train(overrides: list[str]) -> TrainConfig:
    """`compose_config` of `python -m sentiment.train`."""
    return compose_config("train", TrainConfig, overrides)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What a script runs in: a user's mistake is one line on standard error, and exit code 2."""
    try:
        yield
    except (UserError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _exit(explain(error, TrainConfig))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def to_dataclass(settings: DictConfig, schema: type[Config]) -> Config:
    """Check composed settings against the schema and leave Hydra's types behind.

    Raises:
        UserError: an impossible value.
        OmegaConfBaseException: an unknown key, a wrong type or a missing value.
    """
    # Plain values first: a key that came in by +KEY=VALUE is only noticed on its way in.
    values = OmegaConf.to_container(settings, resolve=True)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))
    assert isinstance(config, schema)
    return config


def explain(error: Exception, schema: type) -> str:
    """Say in one line what is wrong with the command line or a file, and how to mend it."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    first_line = str(cause).partition("\n")[0]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        group = group or "--config-name"
        options = error.options or []
        return f"{group}={choice}: there is no such choice, expected {_either(choice, options)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}, expected KEY=VALUE, or 'KEY=\"VALUE\"' where " + (
            "the value has signs such as ~ ( = or a space"
        )
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        key = cause.full_key or str(cause.key)
        return f"unknown setting {key}, expected {_either(key, list(setting_names(schema)))}"
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key} is not set, expected {cause.full_key}=VALUE"
    if isinstance(cause, ValidationError):
        return f"{cause.full_key}: {first_line}"
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror or error}"
    if first_line.startswith("Ambiguous value"):
        return f"{first_line}: -m runs one job for each, KEY=[VALUE,VALUE] is a list"
    return first_line


def setting_names(schema: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings below a dataclass."""
    for field in fields(schema):
        if isinstance(field.type, type) and is_dataclass(field.type):
            yield from setting_names(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _either(found: str, names: Sequence[str]) -> str:
    if near := difflib.get_close_matches(found, names, n=1, cutoff=0.6):
        return f"perhaps {near[0]} (--help lists all)"
    last = found.rpartition(".")[2]
    if near := [name for name in names if name.rpartition(".")[2] == last]:
        return " or ".join(near)
    return "one of: " + ", ".join(names) if len(names) < 10 else "a key that --help lists"


def _take_back(directory: Path) -> None:
    """Remove what Hydra wrote for a run that never started, and the folders that this empties."""
    shutil.rmtree(directory / ".hydra", ignore_errors=True)
    for name in (f"{HydraConfig.get().job.name}.log", LOCK):
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # of the first folder that is not empty
        if directory != Path.cwd():
            directory.rmdir()
        for folder in directory.parents:
            if Path.cwd() not in folder.parents:
                break
            folder.rmdir()


def _exit(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
