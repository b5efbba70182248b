"""Categories of a dataset that come, go, and change.

``dataset.json`` is written first and counts at once; annotation files, which hold copies of ids and
names, follow one by one. What still has the old ones is read as what became of them.
"""

from collections.abc import Iterator
from dataclasses import replace

from napari_deeppixel.core.category import Category, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotation_file import in_categories
from napari_deeppixel.dataset.dataset_file import DatasetFile
from napari_deeppixel.dataset.folder import DatasetFolder, DatasetPart
from napari_deeppixel.dataset.image_entry import ImageRecord


class CategoryMethods(DatasetPart):
    """What a dataset does with its categories."""

    def add_category(self, name: str, color: str | None = None, key: str = "") -> Category:
        """Add a category; return it.

        Raises
        ------
        AnnotationError
            If there is one of that name, or name, colour or key are not allowed.
        """
        return _add(self._folder, name=name, color=color, key=key)

    def rename_category(self, category_id: int, name: str) -> None:
        """Give a category another name, at once for all readers.

        Files get the new name when they are saved next, or by `rewrite_categories`.

        Raises
        ------
        AnnotationError
            If there is no such category, or another one of that name: merge them instead.
        """
        _rename(self._folder, category_id, name)

    def set_category(
        self, category_id: int, *, color: str | None = None, key: str | None = None
    ) -> None:
        """Set the colour or the key of a category.

        Raises
        ------
        AnnotationError
            If there is no such category, or the value is not allowed.
        """
        _change(self._folder, category_id, color=color, key=key)

    def merge_categories(
        self, from_id: int, into_id: int, *, cancel: CancelToken | None = None
    ) -> None:
        """Make one category of two, and write all files with it anew: some 10 ms of each.

        All readers see the merged category from the first moment. Whoever stops it, or a process
        that dies, leaves the rest to `rewrite_categories`.

        Raises
        ------
        AnnotationError
            If one of them is not there, or both are the same.
        RunCancelled
            If somebody asked to stop.
        """
        _merge(self._folder, from_id, into_id)
        for _ in self.rewrite_categories(cancel=cancel):
            pass

    def rewrite_categories(self, *, cancel: CancelToken | None = None) -> Iterator[Progress]:
        """Write all files anew that use ids or names of categories as they were before."""
        return _rewrite(self._folder, cancel)

    def remove_category(self, category_id: int) -> None:
        """Remove a category that no annotation uses.

        Raises
        ------
        AnnotationError
            If there is no such category, or it is in use.
        """
        _remove(self._folder, category_id)


def _add(folder: DatasetFolder, *, name: str, color: str | None, key: str) -> Category:
    """Add a category."""
    with folder.locked():
        content = folder.content
        _refuse_name(content, name)
        chosen = palette_color(len(content.categories)) if color is None else color
        try:
            category = Category(id=content.next_category_id, name=name, color=chosen, key=key)
        except ValueError as error:
            raise AnnotationError(str(error)) from error
        folder.write_content(content.with_category(category))
    return category


def _rename(folder: DatasetFolder, category_id: int, name: str) -> None:
    """Rename a category."""
    with folder.locked():
        content = folder.content
        before = _known(content, category_id)
        if name == before.name:
            return
        _refuse_name(content, name)
        try:
            folder.write_content(content.renamed(category_id, name))
        except ValueError as error:
            raise AnnotationError(str(error)) from error


def _change(folder: DatasetFolder, category_id: int, *, color: str | None, key: str | None) -> None:
    """Change colour or key."""
    with folder.locked():
        content = folder.content
        before = _known(content, category_id)
        try:
            after = replace(
                before,
                color=before.color if color is None else color,
                key=before.key if key is None else key,
            )
        except ValueError as error:
            raise AnnotationError(str(error)) from error
        if after != before:
            folder.write_content(content.with_category(after))


def _merge(folder: DatasetFolder, from_id: int, into_id: int) -> None:
    """Make one category of two in ``dataset.json``; files follow by `rewrite`."""
    with folder.locked():
        content = folder.content
        # asked for again after it was cut short: the files are what is left to do
        if content.merged.get(from_id) == into_id:
            return
        _known(content, from_id)
        _known(content, into_id)
        if from_id == into_id:
            raise AnnotationError(f"category {from_id} cannot be merged into itself")
        folder.write_content(content.merged_into(from_id, into_id))


def _remove(folder: DatasetFolder, category_id: int) -> None:
    """Remove a category."""
    folder.index.warm_up()
    with folder.locked():
        content = folder.content
        category = _known(content, category_id)
        users = [
            record.name
            for record in folder.index.latest().values()
            for used, name, _ in record.categories
            if content.resolve(used, name) == category_id
        ]
        if users:
            raise AnnotationError(
                f"category {category.name!r} is used in {len(users):,} images ({users[0]}, …): "
                "merge it into another one"
            )
        folder.write_content(content.without_category(category_id))


def is_stale(record: ImageRecord, content: DatasetFile) -> bool:
    """Whether a file uses an id or a name of a category that has another one now."""
    for used, name, _ in record.categories:
        now = content.resolve(used, name)
        if now is not None and (now != used or content.categories.by_id(now).name != name):
            return True
    return False


def _rewrite(folder: DatasetFolder, cancel: CancelToken | None) -> Iterator[Progress]:
    """Write all files anew that use categories as they were; one lock for each file."""
    content = folder.content
    records = folder.index.records(cancel=cancel).values()
    names = [record.name for record in records if is_stale(record, content)]
    for done, name in enumerate(names):
        if cancel is not None:
            cancel.raise_if_cancelled()
        yield Progress(fraction=done / len(names), message=f"categories of {name}")
        rewrite_one(folder, name)


def rewrite_one(folder: DatasetFolder, name: str) -> None:
    """Write the annotation file of an image with categories as they are now."""
    with folder.locked():
        record = folder.index.known(name)
        # removed, or saved by somebody, meanwhile
        if record is None or record.problem or not is_stale(record, folder.content):
            return
        document, content = in_categories(folder.read_document(name), folder.content)
        if len(content.categories) > len(folder.content.categories):
            folder.write_content(content)
        folder.write_next(name, document)


def _known(content: DatasetFile, category_id: int) -> Category:
    try:
        return content.categories.by_id(category_id)
    except KeyError as error:
        raise AnnotationError(f"the dataset has {error.args[0]}") from error


def _refuse_name(content: DatasetFile, name: str) -> None:
    if any(category.name == name for category in content.categories.categories):
        raise AnnotationError(f"there is a category {name!r} already; merge them instead")
