"""The models that a person trained or was given, by name; no torch here, so that forms can use it.

A folder with one ``NAME.safetensors`` a model. A name is the file's, whatever the file says inside:
renaming leaves weights and hash as they are. What is removed goes to ``removed/``.
"""

import functools
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.catalogue import CATALOGUE
from napari_deeppixel.engine.library_file import (
    LibraryState,
    library_lock,
    read_state,
    write_state,
)
from napari_deeppixel.engine.model_name import RESERVED, clean_name, is_reserved, same_name
from napari_deeppixel.engine.origin import Origin
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.spec_file import read_spec

ROOT_VARIABLE = "NAPARI_DEEPPIXEL_MODELS"

_SUFFIX = ".safetensors"
_REMOVED = "removed"
# what training calls its best weights in every run: the run's name says more
_BEST = "best"
_MAX_HISTORY = 100


def library_folder() -> Path:
    """Return the folder of all models; the variable ``NAPARI_DEEPPIXEL_MODELS`` overrides it."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen or Path(platformdirs.user_data_dir("napari-deeppixel")) / "models")


@dataclass(frozen=True, kw_only=True)
class LibraryModel:
    """One model of the library.

    Attributes
    ----------
    name
        What `load_model` takes.
    path
        Its file.
    spec
        What the file says about itself; `spec.name` is what training called it.
    """

    name: str
    path: Path
    spec: ModelSpec

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the file, hexadecimal; reads all of it the first time."""
        return hash_of(self.path)

    @property
    def origin(self) -> Origin:
        """Where it comes from, value by value."""
        return Origin.of(self.spec)

    @property
    def lineage(self) -> tuple[str, ...]:
        """Where it comes from, in sentences."""
        return self.origin.sentences()


class ModelLibrary:
    """The models in a folder, and which one is used.

    Nothing is kept in memory, so several windows and commands see the same.

    Parameters
    ----------
    folder
        Where the models are; None: `library_folder`. Made at the first change.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = library_folder() if folder is None else folder

    # -- what is there ------------------------------------------------------------------------

    def models(self) -> tuple[LibraryModel, ...]:
        """Return the models that can be read, by name; `problems` tells of the others."""
        return self._read()[0]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the library, in sentences."""
        told = read_state(self.folder).problem
        return (*([told] if told else ()), *self._read()[1])

    def names(self) -> tuple[str, ...]:
        """Return the name of every model here, readable or not, without opening them."""
        return tuple(path.stem for path in self._paths())

    def find(self, name: str) -> Path | None:
        """Return the file of a name, of any case; None if it is none of the library's."""
        paths = list(self._paths())
        exact = [path for path in paths if path.stem == name]
        alike = [path for path in paths if same_name(path.stem, name)]
        return next(iter(exact + alike), None)

    def path_of(self, name: str) -> Path:
        """Return the file of a name.

        Raises
        ------
        WeightsError
            If there is no such model.
        """
        path = self.find(name)
        if path is None and name in _CATALOGUE_NAMES:
            raise WeightsError(
                f"{name} comes with the program: it can be used, but not renamed, exported or "
                "removed"
            )
        if path is None:
            names = ", ".join(self.names()) or "no model yet"
            raise WeightsError(f"no model {name!r} in the library, which holds {names}")
        return path

    def model(self, name: str) -> LibraryModel:
        """Return the model of a name.

        Raises
        ------
        WeightsError
            If there is no such model, or its file cannot be read.
        """
        path = self.path_of(name)
        return LibraryModel(name=path.stem, path=path, spec=read_spec(path))

    def base_of(self, spec: ModelSpec) -> str:
        """Return the model of the catalogue that a model's training began with, however long ago.

        Ancestors are known by their hash, else by their name; removed ones, too. Empty if it
        began with random weights, or an ancestor is not here.
        """
        seen: set[str] = set()
        while True:
            origin = Origin.of(spec)
            if origin.start in _CATALOGUE_NAMES:
                return origin.start
            ancestor = self._ancestor(origin)
            if ancestor is None or str(ancestor) in seen:
                return ""
            seen.add(str(ancestor))
            try:
                spec = read_spec(ancestor)
            except WeightsError:
                return ""

    # -- which one is used --------------------------------------------------------------------

    @property
    def current(self) -> str:
        """Name of the model in use; one whose file is gone gives way to the one before it."""
        return self._used_in_turn()[-1]

    @property
    def history(self) -> tuple[str, ...]:
        """Models in use before that are still there, the oldest first."""
        return tuple(self._used_in_turn()[:-1])

    @property
    def can_roll_back(self) -> bool:
        """Whether a model that is still there was in use before this one."""
        return bool(self.history)

    def use(self, name: str) -> None:
        """Make a model, of this library or of the catalogue, the one in use.

        Raises
        ------
        WeightsError
            If there is no such model, or it cannot be read.
        """
        if name not in _CATALOGUE_NAMES:
            name = self.model(name).name
        with library_lock(self.folder):
            self._write_turns([*self._used_in_turn(), name])

    def roll_back(self) -> str:
        """Make the model in use before this one the one in use again, and return its name.

        Raises
        ------
        WeightsError
            If there was none, or it is gone.
        """
        with library_lock(self.folder):
            *earlier, current = self._used_in_turn()
            if not earlier:
                raise WeightsError(
                    f"no model was used before {current}: choose one with use, or in the window"
                )
            self._write_turns(earlier)
        return earlier[-1]

    # -- changes ------------------------------------------------------------------------------

    def add(self, path: Path | str, name: str | None = None) -> LibraryModel:
        """Copy a weights file into the library, after loading it once, and return its model.

        Parameters
        ----------
        path
            ``.safetensors`` as this program writes them, or what else `load_model` takes, which
            is converted.
        name
            None: the file's, with a number where it is taken; and a file that is there already
            stays as it is.

        Raises
        ------
        WeightsError
            If the file is unsafe, damaged or does not fit, or the name is taken.
        """
        # imported here: torch takes seconds, and forms list models without it
        from napari_deeppixel.engine.weights import load_file, save_weights

        path = Path(path)
        # its weights are all that is needed
        engine = load_file(path, engine="reference", device="cpu")
        with library_lock(self.folder):
            if name is None:
                known = self._with_hash(hash_of(path))
                if known is not None:
                    return known
                given = engine.spec.name if path.stem == _BEST else path.stem
                target = self._free_place(given)
            else:
                target = self._place(name)
            if path.suffix == _SUFFIX:
                _copy(path, target)
            else:
                save_weights(engine.model, engine.spec, target)
        return self.model(target.stem)

    def rename(self, old: str, new: str) -> str:
        """Give a model another name and return it, cleaned; weights and hash stay as they are.

        Raises
        ------
        WeightsError
            If there is no such model, or the new name is taken.
        """
        with library_lock(self.folder):
            path = self.path_of(old)
            turns = self._used_in_turn()
            target = self._place(new, besides=path)
            # first under both names: a process that dies in between leaves it in use
            both = [(turn, target.stem) if turn == path.stem else (turn,) for turn in turns]
            self._write_turns([name for names in both for name in names])
            path.rename(target)
            self._write_turns([names[-1] for names in both])
        return target.stem

    def remove(self, name: str) -> Path:
        """Move a model to ``removed/`` and return its file there.

        Where it is the one in use, the one before it is used again.

        Raises
        ------
        WeightsError
            If there is no such model.
        """
        with library_lock(self.folder):
            path = self.path_of(name)
            turns = self._used_in_turn()
            bin_folder = self.folder / _REMOVED
            bin_folder.mkdir(exist_ok=True)
            target = _numbered(bin_folder, path.stem, [p.stem for p in bin_folder.iterdir()])
            # first who is used: a process that dies in between leaves a model, not a gap
            self._write_turns([turn for turn in turns if turn != path.stem])
            path.rename(target)
        return target

    def export(self, name: str, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write a model to one file and return its path; a folder gets ``NAME.safetensors``.

        Raises
        ------
        WeightsError
            If there is no such model, the ending is another, or a file is there and `overwrite`
            is not set.
        """
        path = Path(path)
        if path.is_dir():
            path = path / f"{name}{_SUFFIX}"
        if path.suffix != _SUFFIX:
            raise WeightsError(
                f"{path}: a model is written as {_SUFFIX}: give the file that ending"
            )
        if not path.parent.is_dir():
            raise WeightsError(f"{path}: there is no folder {path.parent}: make it first")
        if path.exists() and not overwrite:
            raise WeightsError(f"{path} is there already: choose another file, or overwrite it")
        if name == LibraryState().used:
            with packaged_weights(name) as source:
                _copy(source, path)
        elif name in _CATALOGUE_NAMES:
            raise WeightsError(
                f"{name} is torchvision's and downloaded wherever it is asked for: there is "
                "nothing to export"
            )
        else:
            _copy(self.path_of(name), path)
        return path

    # -- inside -------------------------------------------------------------------------------

    def _paths(self) -> Iterator[Path]:
        try:
            inside = sorted(self.folder.iterdir(), key=lambda path: path.stem.casefold())
        except OSError:
            return
        for path in inside:
            # hidden ones are being written; one with a name of the catalogue would hide it
            is_ours = path.suffix == _SUFFIX and not path.name.startswith(".")
            if is_ours and path.is_file() and not is_reserved(path.stem):
                yield path

    def _read(self) -> tuple[tuple[LibraryModel, ...], tuple[str, ...]]:
        models, problems = [], []
        for path in self._paths():
            try:
                models.append(LibraryModel(name=path.stem, path=path, spec=read_spec(path)))
            except WeightsError as error:
                problems.append(str(error))
        return tuple(models), tuple(problems)

    def _used_in_turn(self) -> list[str]:
        """Return the models used one after the other that are still there; at least one."""
        state = read_state(self.folder)
        known = {*_CATALOGUE_NAMES, *self.names()}
        turns: list[str] = []
        for name in (*state.history, state.used):
            if name in known and name not in turns[-1:]:
                turns.append(name)
        return turns or [LibraryState().used]

    def _write_turns(self, turns: list[str]) -> None:
        distinct = [
            name for name, before in zip(turns, ["", *turns], strict=False) if name != before
        ]
        *history, used = distinct or [LibraryState().used]
        write_state(self.folder, LibraryState(used=used, history=tuple(history[-_MAX_HISTORY:])))

    def _place(self, name: str, *, besides: Path | None = None) -> Path:
        """Return the file for a new name."""
        cleaned = clean_name(name)
        there = self.find(cleaned)
        if is_reserved(cleaned) or (there is not None and there != besides):
            raise WeightsError(f"the name {cleaned!r} is taken: choose another")
        return self.folder / f"{cleaned}{_SUFFIX}"

    def _free_place(self, name: str) -> Path:
        return _numbered(self.folder, clean_name(name), [*self.names(), *RESERVED])

    def _with_hash(self, weights_hash: str) -> LibraryModel | None:
        return next((m for m in self.models() if m.weights_hash == weights_hash), None)

    def _ancestor(self, origin: Origin) -> Path | None:
        """Return the file that a model's training began with; None if it is not here."""
        if origin.start_hash:
            for path in (*self._paths(), *(self.folder / _REMOVED).glob(f"*{_SUFFIX}")):
                if hash_of(path).startswith(origin.start_hash):
                    return path
        path = Path(origin.start)
        is_file = path.suffix == _SUFFIX and path.is_file()
        return path if is_file else self.find(origin.start)


_CATALOGUE_NAMES = tuple(entry.name for entry in CATALOGUE)


def packaged_weights(name: str) -> AbstractContextManager[Path]:
    """Return the file of a model that comes with this package, for a ``with``."""
    packaged = resources.files("napari_deeppixel") / "models" / f"{name}{_SUFFIX}"
    return resources.as_file(packaged)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; read once for each state of the file."""
    status = path.stat()
    return _hash_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_of(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numbered(folder: Path, name: str, taken: Iterable[str]) -> Path:
    """Return a file for a name, with the first number that makes it a free one."""
    taken = list(taken)
    number, free = 2, name
    while any(same_name(free, other) for other in taken):
        free = f"{name}-{number}"
        number += 1
    return folder / f"{free}{_SUFFIX}"


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file, atomic_file(target) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
