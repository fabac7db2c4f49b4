"""One rule for every verb that writes into a folder with content.

Asked for the same in the same folder, a verb does its work again or goes on with it. A folder that
holds anything else under the names that it writes to is refused; `--replace` removes that, unless
the verb stops before it has written anything.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medgan.core.config import Config
from medgan.core.config.reading import NAMES
from medgan.core.errors import ConfigError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.data.pseudonyms import Pseudonyms

RECORD = ".medgan.json"
"""What each step was asked for, in the folder that it writes to; paths are in it as pseudonyms."""
ASIDE = ".replaced"
"""Holds what a run replaces, as long as it has written nothing itself."""
Asked = dict[str, Any]


def asked(config: Config, settings: Iterable[str]) -> Asked:
    """The settings that decide what a step writes, by their full names.

    Args:
        config: all settings.
        settings: sections, or single settings by their full names.
    """
    values = config.model_dump(mode="json")
    flat: Asked = {}
    for name in settings:
        section, _, key = name.partition(".")
        found = values[section]
        if key:
            flat[name] = found[key]
        elif isinstance(found, dict):
            flat |= {f"{section}.{key}": value for key, value in found.items()}
        else:
            flat[section] = found
    private = {f"{section}.{key}" for section, keys in NAMES.items() for key in keys}
    return {k: hidden(v) if k in private | {"model_uri"} else v for k, v in sorted(flat.items())}


def inputs(config: Config) -> list[Path]:
    """All files and folders that a run reads."""
    values = config.model_dump(mode="json")
    named: list[Any] = [config.model_uri]
    for section, keys in NAMES.items():
        named += [values[section][key] for key in keys]
    flat = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return [Path(one).resolve() for one in flat if one and ":/" not in one]


def hidden(value: Any) -> Any:  # noqa: ANN401 - a path, several, or none
    """A pseudonym of a path, which may hold a name."""
    if isinstance(value, list):
        return [hidden(one) for one in value]
    if not value:
        return value
    text = str(value)
    is_path = not text.startswith(("models:/", "runs:/", "seed:"))
    return Pseudonyms.of_site().case(str(Path(text).resolve()) if is_path else text)


def claim(
    folder: Path,
    step: str,
    names: Iterable[str],
    wanted: Asked,
    replace: bool,
    extends: bool = False,
) -> bool:
    """Whether a folder may receive what a step writes.

    Args:
        folder: of the step.
        step: its name.
        names: glob patterns of all that it writes.
        wanted: what it is asked for.
        replace: whether to remove what another one has left.
        extends: whether the step knows by itself what of its earlier work still holds.

    Returns:
        Whether the folder holds the work of the same step, asked for the same.

    Raises:
        ConfigError: E_OUT.
    """
    held = sorted(path.name for pattern in names for path in folder.glob(pattern))
    before = read_record(folder).get(step)
    if not held or replace or before == wanted or (extends and before is not None):
        return bool(held) and before == wanted
    what = f"holds {held[0]}, which this command did not write"
    if before is not None:
        differs = sorted(k for k in {*before, *wanted} if before.get(k) != wanted.get(k))
        what = f"holds results of {step} with another {', '.join(differs)}"
    raise ConfigError("E_OUT", "-o", what, "choose another folder, or replace it with --replace")


class Aside:
    """What steps have left and others are about to replace, kept until they have done so.

    Args:
        out: the folder that receives everything.
    """

    def __init__(self, out: Path) -> None:
        self._kept = out / ASIDE
        self._moved: dict[Path, Path] = {}
        self._texts: dict[Path, bytes] = {}
        shutil.rmtree(self._kept, ignore_errors=True)  # of a run that was killed

    def keep(self, file: Path) -> None:
        """Remembers a small file that is about to be written, if it exists."""
        if file.is_file() and file not in self._texts:
            self._texts[file] = file.read_bytes()

    def take(self, folder: Path, names: Iterable[str], read: Iterable[Path] = ()) -> None:
        """Puts aside what a step has left.

        Args:
            folder: of the step.
            names: glob patterns of all that it writes.
            read: files and folders that are about to be read.

        Raises:
            ConfigError: E_OUT when one of these would go as well.
        """
        held = [path for pattern in names for path in folder.glob(pattern)]
        for path in held:
            own = path.resolve()
            if any(own.is_relative_to(one) or one.is_relative_to(own) for one in read):
                raise ConfigError(
                    "E_OUT", "-o", f"{path.name} in it is to be read, too", "choose another folder"
                )
        for path in (one for one in held if one not in self._moved):
            self._kept.mkdir(exist_ok=True)
            self._moved[path] = path.rename(self._kept / str(len(self._moved)))

    def __enter__(self) -> "Aside":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Removes it; after an error it goes back, unless something is in its place already."""
        if kind is not None and not any(path.exists() for path in self._moved):
            for path, kept in self._moved.items():
                kept.rename(path)
            for file, content in self._texts.items():
                write_atomic(file, content)
        shutil.rmtree(self._kept, ignore_errors=True)


def note(folder: Path, step: str, wanted: Asked) -> None:
    """Writes down what a step was asked for, before it begins."""
    write_atomic(folder / RECORD, json.dumps({**read_record(folder), step: wanted}, indent=1))


def read_record(folder: Path) -> Mapping[str, Asked]:
    """What each step of a folder was asked for."""
    try:
        found = read_json(folder / RECORD)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
