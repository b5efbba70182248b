"""What there is to learn from, counted before training starts; no torch here."""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.core.words import counted
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.content_hash import sha256_of
from napari_deeppixel.dataset.dataset_file import DatasetFile, read_dataset_file
from napari_deeppixel.dataset.folder import FILE_NAME, resolver_of
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.dataset.image_entry import ImageEntry, category_names
from napari_deeppixel.dataset.image_folder import ImageFolder, inner_name
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.content import ImageContent, NameOf, content_of
from napari_deeppixel.training.data_warnings import Findings, warnings_of

Stamp: TypeAlias = tuple[DatasetFile, int, int]
Known: TypeAlias = dict[str, tuple[Stamp, ImageContent]]

# a file that was written so shortly ago may change again within one tick of its disk's clock
_UNSURE_S = 2.0
_PERCENTILES = (5, 50, 95)
_TELL_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What there is to learn from.

    A plane of a stack counts as an image, as in training.

    Attributes
    ----------
    num_images
        Split → images that are used.
    num_objects
        Category name → split → objects that are learnt.
    num_without_objects
        Used images that have none.
    complete_share
        Share of all pixels, 0 to 1, where every object has been annotated; those of images that
        are left out count, too.
    num_left_out
        Images that are neither complete nor have complete regions.
    object_diameter_px
        5th, 50th and 95th percentile over all objects, of circles of their areas; NaN without any.
    content_hash
        SHA-256 over pixels, masks, categories, states, regions and splits. Equal on every machine,
        whatever the images are called and wherever they lie.
    warnings
        What a person should know before training, a sentence each.
    """

    num_images: Mapping[str, int]
    num_objects: Mapping[str, Mapping[str, int]]
    num_without_objects: int
    complete_share: float
    num_left_out: int
    object_diameter_px: tuple[float, float, float]
    content_hash: str
    warnings: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return it for people, without the warnings, a sentence each."""
        counts = [self.num_images[split] for split in Split]
        lines = [
            f"{counted(counts[0], 'image')} to learn from, {counts[1]:,} to choose by, "
            f"{counts[2]:,} for tests."
        ]
        for name, by_split in self.num_objects.items():
            told = ", ".join(f"{by_split[split]:,} in {split}" for split in Split)
            lines.append(f"{name}: {told}.")
        if not math.isnan(self.object_diameter_px[1]):
            low, median, high = self.object_diameter_px
            lines.append(f"Objects are {low:.0f} to {high:.0f} px wide, half below {median:.0f}.")
        if self.num_without_objects:
            lines.append(f"Without an object: {counted(self.num_without_objects, 'image')}.")
        share = math.floor(100 * self.complete_share)
        lines.append(f"Every object is annotated on {share} % of all pixels.")
        return tuple(lines)


def summarise(
    dataset: Path,
    *,
    known: Known | None = None,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DataSummary:
    """Return what there is to learn from in a folder.

    Parameters
    ----------
    dataset
        A dataset; or a folder with ``train/``, ``val/``, ``test/``, as many as there are, each
        with ``instances.json`` (COCO) and its images, which count as complete unless the file
        says something else.
    known
        Of earlier calls on the same dataset, so that only files that changed are read; it is
        filled in.
    cancel
        Looked at before each image.
    on_progress
        Told now and then how far it is.

    Raises
    ------
    AnnotationError
        If the folder is neither, or a ``dataset.json`` or ``instances.json`` cannot be read.
    RunCancelled
        If somebody asked to stop.
    """
    dataset = Path(dataset)
    cancel = cancel or CancelToken()
    if Dataset.is_dataset(dataset):
        reader: _DatasetReader | _CocoReader = _DatasetReader(
            dataset, {} if known is None else known, cancel
        )
    else:
        reader = _CocoReader(dataset, cancel)
    tally = _Tally(reader.category_names)
    for done, (split, identity, content) in enumerate(reader.contents(), start=1):
        tally.add(split, identity, content)
        if on_progress is not None and done % _TELL_EVERY == 0:
            fraction = min(done / reader.num_images, 1.0)
            on_progress(Progress(fraction=fraction, message="counting objects"))
    return tally.summary(reader.findings)


class _Tally:
    """Adds up what is in images."""

    def __init__(self, category_names: list[str]) -> None:
        self._names = category_names
        self._images: Counter[str] = Counter()
        self._objects: dict[str, Counter[str]] = {name: Counter() for name in category_names}
        self._left_out = self._empty = self._unreviewed = self._unusable = 0
        self._pixels = self._complete_pixels = 0
        self._diameters_px: list[float] = []
        self._digests: list[str] = []
        self._splits_of: dict[str, set[str]] = {}

    def add(self, split: str, identity: str, content: ImageContent) -> None:
        self._digests.append(f"{split} {content.digest}")
        self._splits_of.setdefault(identity, set()).add(split)
        for plane in content.planes:
            self._pixels += plane.num_pixels
            self._complete_pixels += plane.num_complete_pixels
            self._unusable += plane.num_unusable
            if not plane.is_used:
                self._left_out += 1
                continue
            self._images[split] += 1
            self._empty += not plane.counts
            self._unreviewed += plane.num_unreviewed
            self._diameters_px += plane.diameters_px
            for name, count in plane.counts.items():
                self._objects.setdefault(name, Counter())[split] += count

    def summary(self, findings: Findings) -> DataSummary:
        images = {split.value: self._images[split] for split in Split}
        objects = {
            name: {split.value: counts[split] for split in Split}
            for name, counts in self._objects.items()
        }
        findings.num_left_out = self._left_out
        findings.num_unreviewed = self._unreviewed
        findings.num_unusable = self._unusable
        findings.num_in_two_splits = sum(len(splits) > 1 for splits in self._splits_of.values())
        low, median, high = (
            np.percentile(self._diameters_px, _PERCENTILES).tolist()
            if self._diameters_px
            else (math.nan,) * 3
        )
        return DataSummary(
            num_images=images,
            num_objects=objects,
            num_without_objects=self._empty,
            complete_share=self._complete_pixels / self._pixels if self._pixels else 0.0,
            num_left_out=self._left_out,
            object_diameter_px=(low, median, high),
            content_hash=self._hash(),
            warnings=warnings_of(images, objects, findings),
        )

    def _hash(self) -> str:
        # the order of the categories is that of the network's outputs
        told = json.dumps([self._names, sorted(self._digests)])
        return hashlib.sha256(told.encode()).hexdigest()


class _DatasetReader:
    """Reads the annotation files of a dataset, as far as they are not known."""

    def __init__(self, path: Path, known: Known, cancel: CancelToken) -> None:
        self._dataset, self._known, self._cancel = Dataset.open(path), known, cancel
        self._content = read_dataset_file(path / FILE_NAME)
        self._resolve = resolver_of(self._content)
        self._entries = self._dataset.entries(cancel=cancel)
        self.num_images = len(self._entries)
        self._names_of_ids = {c.id: c.name for c in self._content.categories.categories}
        self.category_names = list(self._names_of_ids.values())
        self.findings = Findings(is_dataset=True)

    def contents(self) -> Iterator[tuple[str, str, ImageContent]]:
        """Yield split, identity and content of the images that can be read."""
        for entry in self._entries:
            self._cancel.raise_if_cancelled()
            try:
                content = self._content_of(entry)
            except AnnotationError:
                self.findings.num_unreadable += 1
                continue
            self._look_for_image(entry)
            yield entry.split.value, entry.sha256 or entry.image_id, content

    def _look_for_image(self, entry: ImageEntry) -> None:
        try:
            self._dataset.image_path(entry.image_id)
        except AnnotationError:
            self.findings.num_without_file += 1

    def _content_of(self, entry: ImageEntry) -> ImageContent:
        if entry.problem:
            raise AnnotationError(entry.problem)
        path = self._dataset.annotation_path(entry.image_id)
        try:
            status = path.stat()
        except OSError as error:
            raise AnnotationError(f"{path}: {error.strerror or error}") from error
        stamp = (self._content, status.st_size, status.st_mtime_ns)
        before = self._known.get(entry.image_id)
        if before is not None and before[0] == stamp:
            return before[1]
        content = self._read(path, entry)
        if time.time() - status.st_mtime > _UNSURE_S:
            self._known[entry.image_id] = stamp, content
        return content

    def _read(self, path: Path, entry: ImageEntry) -> ImageContent:
        document = read_json(path)
        names = category_names(document)

        def name_of(category_id: Any) -> str | None:
            if not isinstance(category_id, int | str):
                return None
            name = names.get(category_id)
            now = self._resolve(category_id, name)
            # one that the dataset lacks comes in by its name
            return name if now is None else self._names_of_ids[now]

        return content_of(
            _dicts(document, "images"),
            _dicts(document, "annotations"),
            name_of,
            identity=entry.sha256 or entry.image_id,
            is_dataset=True,
        )


class _CocoReader:
    """Reads ``train/instances.json`` and its like."""

    def __init__(self, path: Path, cancel: CancelToken) -> None:
        self._cancel = cancel
        files = {split.value: path / split / "instances.json" for split in Split}
        self._documents = {
            split: (file.parent, _document_of(file))
            for split, file in files.items()
            if file.is_file()
        }
        if Split.TRAIN.value not in self._documents:
            raise AnnotationError(
                f"{path}: no {FILE_NAME} and no train/instances.json; choose a dataset, or a "
                "folder with train/ and val/, each with instances.json (COCO) and its images"
            )
        documents = [document for _, document in self._documents.values()]
        self.num_images = sum(len(_dicts(document, "images")) for document in documents)
        names = [name for d in documents for name in category_names(d).values() if name]
        self.category_names = list(dict.fromkeys(names))
        self.findings = Findings(is_dataset=False)

    def contents(self) -> Iterator[tuple[str, str, ImageContent]]:
        """Yield split, identity and content of the images that can be read."""
        for split, (folder, document) in self._documents.items():
            images, name_of = ImageFolder(folder), _namer(document)
            annotations = _grouped(_dicts(document, "annotations"), "image_id")
            for file_name, planes in _grouped(_dicts(document, "images"), "file_name").items():
                self._cancel.raise_if_cancelled()
                identity = self._identity(images, file_name)
                entries = [e for p in planes for e in annotations.get(str(p.get("id")), [])]
                try:
                    content = content_of(
                        planes, entries, name_of, identity=identity, is_dataset=False
                    )
                except AnnotationError:
                    self.findings.num_unreadable += 1
                    continue
                yield split, identity, content

    def _identity(self, images: ImageFolder, file_name: str) -> str:
        try:
            path = images.root / file_name
            found = path if path.is_file() else images.find(inner_name(file_name).as_posix())
            if found is not None:
                return sha256_of(found, self._cancel)
        except (AnnotationError, OSError, ValueError):
            pass
        self.findings.num_without_file += 1
        return file_name


def _namer(document: dict[str, Any]) -> NameOf:
    names = category_names(document)
    return lambda value: names.get(value) if isinstance(value, int | str) else None


def _document_of(path: Path) -> dict[str, Any]:
    document = read_json(path, limit=MAX_TEXT_BYTES)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise AnnotationError(f"{path}: not a COCO file: it has no list of {key}")
    found: dict[str, Any] = document
    return found


def _dicts(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = document.get(key)
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def _grouped(entries: list[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(str(entry.get(key)), []).append(entry)
    return groups
