"""The models of a person: named, used, rolled back, renamed, removed, and never lost."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.networks import slim_model

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.library import LibraryModel, ModelLibrary, packaged_weights
from napari_deeppixel.engine.model_name import clean_name
from napari_deeppixel.engine.origin import Origin
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.weights import load_model, save_weights

TRAINED = {
    "start": {"model": "nuclei", "hash": "0123456789abcdef"},
    "data": "my cells",
    "data_hash": "fedcba9876543210",
    "date": "2026-11-26T20:15:00+00:00",
    "iterations": 300,
    "batch_size": 4,
    "licence": "CC0-1.0",
    "validation": {"ap": 0.61, "ap50": 0.9, "ap75": 0.6, "num_images": 12, "num_objects": 1345},
}


def spec_of(name: str = "run", **provenance: Any) -> ModelSpec:
    table = CategoryTable.from_names("cell", "debris")
    # narrow, to be small
    return slim_spec(name, table, fpn_channels=16, provenance=TRAINED | provenance)


@pytest.fixture(scope="module")
def network() -> Any:
    return slim_model(spec_of())


@pytest.fixture(scope="module")
def saved(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file that a run made."""
    path = tmp_path_factory.mktemp("weights") / "cells.safetensors"
    save_weights(network, spec_of(), path)
    return path


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models")


@pytest.fixture
def put(library: ModelLibrary, saved: Path) -> Iterator[Any]:
    """Return a function that puts models in place without loading them first."""

    def put(*names: str) -> None:
        library.folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.link(saved, library.folder / f"{name}.safetensors")

    return put


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# what is there ------------------------------------------------------------------------------------


def test_an_empty_library_uses_nuclei_and_makes_no_folder(library: ModelLibrary) -> None:
    assert library.models() == ()
    assert (library.current, library.history, library.can_roll_back) == ("nuclei", (), False)
    assert library.problems == ()
    assert not library.folder.exists()


def test_the_folder_is_the_one_that_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_DEEPPIXEL_MODELS", str(tmp_path / "mine"))
    assert ModelLibrary().folder == tmp_path / "mine"
    monkeypatch.delenv("NAPARI_DEEPPIXEL_MODELS")
    assert ModelLibrary().folder.name == "models"


def test_no_test_sees_the_models_of_the_person_at_this_computer() -> None:
    assert "napari-deeppixel-tests-" in str(ModelLibrary().folder)


def test_a_model_that_is_added_is_a_copy_with_the_same_hash(
    library: ModelLibrary, saved: Path
) -> None:
    model = library.add(saved)
    assert (model.name, model.path) == ("cells", library.folder / "cells.safetensors")
    assert model.spec == spec_of()
    assert model.weights_hash == hash_of(saved)
    assert [m.name for m in library.models()] == ["cells"]
    assert library.path_of("cells") == model.path
    # nothing else changes: it is used when somebody says so
    assert library.current == "nuclei"


def test_adding_the_same_weights_again_gives_the_model_that_is_there(
    library: ModelLibrary, saved: Path
) -> None:
    library.add(saved)
    assert library.add(saved).name == "cells"
    assert library.add(saved, "a copy").name == "a copy"
    assert files(library.folder) == ["a copy.safetensors", "cells.safetensors"]


def test_other_weights_of_the_same_name_get_a_number(
    library: ModelLibrary, network: Any, tmp_path: Path, put: Any
) -> None:
    put("Cells")
    other = tmp_path / "cells.safetensors"
    save_weights(network, spec_of(data="other"), other)
    assert library.add(other).name == "cells-2"


def test_the_best_weights_of_a_run_are_called_as_the_run(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    save_weights(network, spec_of("2026-11-26_run"), tmp_path / "best.safetensors")
    assert library.add(tmp_path / "best.safetensors").name == "2026-11-26_run"


def test_a_file_called_as_a_model_of_the_catalogue_gets_a_number(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    save_weights(network, spec_of(), tmp_path / "Nuclei.safetensors")
    assert library.add(tmp_path / "Nuclei.safetensors").name == "Nuclei-2"


def test_what_comes_with_the_program_cannot_be_removed() -> None:
    with pytest.raises(WeightsError, match="nuclei comes with the program"):
        ModelLibrary().remove("nuclei")


@pytest.mark.parametrize("name", ["cells", "CELLS", "nuclei", "Coco", "coco-v2", "used", "scratch"])
def test_a_name_that_is_taken_is_refused(
    library: ModelLibrary, saved: Path, put: Any, name: str
) -> None:
    put("cells")
    with pytest.raises(WeightsError, match="is taken: choose another"):
        library.add(saved, name)
    assert files(library.folder) == ["cells.safetensors"]


def test_a_file_that_hides_a_model_of_the_catalogue_is_not_listed(
    library: ModelLibrary, put: Any
) -> None:
    put("nuclei", "cells")
    assert library.names() == ("cells",)
    assert load_model("nuclei", device="cpu").spec.categories.categories[0].name == "nucleus"


def test_a_damaged_model_is_told_and_the_others_are_listed(
    library: ModelLibrary, saved: Path, put: Any
) -> None:
    put("cells")
    (library.folder / "broken.safetensors").write_bytes(saved.read_bytes()[:1000])
    assert [model.name for model in library.models()] == ["cells"]
    (problem,) = library.problems
    assert "broken.safetensors: cannot be read as weights" in problem
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        library.use("broken")
    with pytest.raises(WeightsError, match="the library, which holds broken, cells"):
        library.path_of("gone")


@pytest.mark.parametrize("name", ["../cells", "..", "", ".", "removed/cells"])
def test_a_name_that_leads_out_of_the_folder_finds_nothing(
    library: ModelLibrary, put: Any, tmp_path: Path, saved: Path, name: str
) -> None:
    put("a")
    (tmp_path / "cells.safetensors").write_bytes(saved.read_bytes())
    assert library.find(name) is None


# what may come in ---------------------------------------------------------------------------------


def test_a_file_that_would_run_code_is_refused(library: ModelLibrary, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="needs to run code to be read"):
        library.add(tmp_path / "evil.pth")
    assert not library.folder.exists()


def test_weights_that_do_not_fit_are_refused(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    wrong = replace(spec_of(), categories=CategoryTable.from_names("one"))
    save_weights(network, wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        library.add(tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match="neither a file nor"):
        library.add(tmp_path / "gone.safetensors")
    assert library.names() == ()


def test_a_checkpoint_of_training_is_converted(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    averaged = {f"module.{name}": value for name, value in network.state_dict().items()}
    content = {"averaged": averaged, "spec": spec_of().to_json()}
    torch.save(content, tmp_path / "last.pt")
    model = library.add(tmp_path / "last.pt", "from a checkpoint.pt")
    assert model.path.name == "from a checkpoint.safetensors"
    assert model.spec == spec_of()
    loaded = load_model(model.path, device="cpu").model.state_dict()
    assert torch.equal(
        loaded["rpn.head.cls_logits.weight"], network.rpn.head.cls_logits.weight.half().float()
    )


def test_an_import_loads_the_weights_alone(
    library: ModelLibrary, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.engine.weights.FastEngine", None)
    assert library.add(saved, "mine").name == "mine"


def test_an_import_without_room_leaves_nothing(
    library: ModelLibrary, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        library.add(saved)
    assert files(library.folder) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    library = ModelLibrary(tmp_path / "file")
    assert library.models() == ()
    with pytest.raises(WeightsError, match="set NAPARI_DEEPPIXEL_MODELS to another folder"):
        library.add(saved)


# which one is used --------------------------------------------------------------------------------


def test_use_and_roll_back_go_through_the_history(library: ModelLibrary, put: Any) -> None:
    put("a", "b")
    for name in ("a", "b", "b", "coco", "a"):
        library.use(name)
    assert library.current == "a"
    assert library.history == ("nuclei", "a", "b", "coco")
    rolled = [library.roll_back() for _ in range(4)]
    assert rolled == ["coco", "b", "a", "nuclei"]
    assert library.current == "nuclei"
    assert not library.can_roll_back
    with pytest.raises(WeightsError, match="no model was used before nuclei"):
        library.roll_back()


def test_a_name_of_another_case_is_used_as_the_file_is_called(
    library: ModelLibrary, put: Any
) -> None:
    put("Cells")
    library.use("cELLS")
    assert library.current == "Cells"


def test_an_unknown_model_cannot_be_used(library: ModelLibrary) -> None:
    with pytest.raises(WeightsError, match="which holds no model yet"):
        library.use("cells")
    assert not library.folder.exists()


def test_renaming_keeps_the_weights_their_hash_and_their_place(
    library: ModelLibrary, put: Any
) -> None:
    put("a", "b")
    for name in ("a", "b", "a"):
        library.use(name)
    before = library.model("a")
    assert before.weights_hash == hash_of(before.path)
    old_hash = before.weights_hash
    assert library.rename("a", "new/name.safetensors") == "new_name"
    after = library.model("new_name")
    assert after.weights_hash == old_hash == hash_of(after.path)
    assert after.spec == before.spec
    assert library.current == "new_name"
    assert library.history == ("nuclei", "new_name", "b")
    assert library.names() == ("b", "new_name")


def test_a_rename_that_is_cut_off_leaves_the_model_in_use(
    library: ModelLibrary, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a", "b")
    for name in ("b", "a"):
        library.use(name)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    rename = Path.rename
    # before the file has its new name
    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        library.rename("a", "c")
    assert library.current == "a"
    # and after it
    monkeypatch.setattr(Path, "rename", lambda path, target: (rename(path, target), die()))
    with pytest.raises(KeyboardInterrupt):
        library.rename("a", "c")
    assert library.current == "c"
    assert library.history == ("nuclei", "b")


def test_a_name_may_change_its_case(library: ModelLibrary, put: Any) -> None:
    put("cells", "b")
    assert library.rename("cells", "Cells") == "Cells"
    assert library.names() == ("b", "Cells")
    with pytest.raises(WeightsError, match="'B' is taken"):
        library.rename("Cells", "B")
    with pytest.raises(WeightsError, match="no model 'cats'"):
        library.rename("cats", "dogs")


def test_removing_the_used_model_goes_back_to_the_one_before(
    library: ModelLibrary, put: Any
) -> None:
    put("a", "b")
    for name in ("a", "b"):
        library.use(name)
    moved = library.remove("b")
    assert moved == library.folder / "removed" / "b.safetensors"
    assert moved.is_file()
    assert (library.current, library.history) == ("a", ("nuclei",))
    library.remove("a")
    assert (library.current, library.history) == ("nuclei", ())
    # another one of that name is not taken for it, and nothing is overwritten there
    put("b")
    assert (library.current, library.history) == ("nuclei", ())
    assert library.remove("b").name == "b-2.safetensors"
    assert files(library.folder / "removed") == [
        "a.safetensors",
        "b-2.safetensors",
        "b.safetensors",
    ]


def test_a_model_that_was_deleted_by_hand_gives_way_to_the_one_before(
    library: ModelLibrary, put: Any
) -> None:
    put("a", "b")
    for name in ("a", "b"):
        library.use(name)
    (library.folder / "b.safetensors").unlink()
    assert (library.current, library.history) == ("a", ("nuclei",))
    assert library.roll_back() == "nuclei"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 1}',
        '{"version": 1, "used": 5, "history": []}',
        '{"version": 1, "used": "nuclei", "history": "ab"}',
        "\udc80",
    ],
)
def test_a_damaged_library_file_is_told_and_kept_and_models_are_listed(
    library: ModelLibrary, put: Any, text: str
) -> None:
    put("cells")
    damaged = text.encode("utf-8", "surrogateescape")
    (library.folder / "library.json").write_bytes(damaged)
    assert [model.name for model in library.models()] == ["cells"]
    assert library.current == "nuclei"
    (problem,) = library.problems
    assert "library.json: cannot be read" in problem
    library.use("cells")
    assert (library.current, library.problems) == ("cells", ())
    assert (library.folder / "library.damaged.json").read_bytes() == damaged


def test_a_library_of_a_later_version_is_not_written_over(library: ModelLibrary, put: Any) -> None:
    put("cells")
    text = json.dumps({"version": 2, "used": "cells", "more": True})
    (library.folder / "library.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match="of a later version"):
        library.use("cells")
    assert (library.folder / "library.json").read_text(encoding="utf-8") == text


def test_two_processes_that_use_models_at_once_lose_no_step(
    library: ModelLibrary, put: Any
) -> None:
    put("a", "b")
    code = (
        "import sys; from pathlib import Path; "
        "from napari_deeppixel.engine.library import ModelLibrary; "
        "library = ModelLibrary(Path(sys.argv[1])); "
        "[library.use(name) for _ in range(10) for name in ('a', 'b')]; "
        "assert 'torch' not in sys.modules"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(library.folder)]) for _ in "12"]
    assert [other.wait(120) for other in others] == [0, 0]
    # each file on the way was whole, and each step is between two different models
    steps = [*library.history, library.current]
    assert library.problems == ()
    assert len(steps) >= 21
    assert all(one != next_one for one, next_one in itertools.pairwise(steps))


def test_threads_of_one_process_wait_for_each_other(library: ModelLibrary, put: Any) -> None:
    put("a", "b", "c", "d")
    threads = [threading.Thread(target=library.use, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*library.history, library.current]) == ["a", "b", "c", "d", "nuclei"]


# loading by name ----------------------------------------------------------------------------------


def test_a_model_is_loaded_by_its_name_and_instances_tell_that_name(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ModelLibrary()
    library.add(saved, "my cells")
    digest = hash_of(saved)[:12]
    assert load_model("my cells", device="cpu").source == f"my cells@{digest}"
    library.rename("my cells", "yours")
    assert load_model("yours", device="cpu").source == f"yours@{digest}"
    # its file elsewhere is what training called it
    assert load_model(saved, device="cpu").source == f"run@{digest}"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="one of nuclei, coco, coco-v2, yours"):
        load_model("my cells", device="cpu")


def test_the_model_in_use_is_loaded_by_the_word_used(saved: Path) -> None:
    library = ModelLibrary()
    assert load_model("used", device="cpu").spec.name == "nuclei"
    library.use(library.add(saved).name)
    assert load_model("used", device="cpu").spec.name == "cells"
    # what scripts name stays what it is
    assert load_model("nuclei", device="cpu").spec.name == "nuclei"


# out ----------------------------------------------------------------------------------------------


def test_an_exported_model_is_the_same_file(
    library: ModelLibrary, saved: Path, put: Any, tmp_path: Path
) -> None:
    put("cells")
    target = tmp_path / "for a friend.safetensors"
    assert library.export("cells", target) == target
    assert target.read_bytes() == saved.read_bytes()
    with pytest.raises(WeightsError, match="is there already: choose another file, or overwrite"):
        library.export("cells", target)
    target.write_bytes(b"old")
    library.export("cells", target, overwrite=True)
    assert target.read_bytes() == saved.read_bytes()
    assert library.export("cells", tmp_path) == tmp_path / "cells.safetensors"
    with pytest.raises(WeightsError, match=r"there is no folder .*nowhere: make it first"):
        library.export("cells", tmp_path / "nowhere" / "c.safetensors")


def test_the_shipped_model_can_be_exported_and_torchvisions_cannot(
    library: ModelLibrary, tmp_path: Path
) -> None:
    library.export("nuclei", tmp_path / "n.safetensors")
    with packaged_weights("nuclei") as path:
        assert (tmp_path / "n.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(WeightsError, match="coco is torchvision's"):
        library.export("coco", tmp_path / "c.safetensors")
    with pytest.raises(WeightsError, match="give the file that ending"):
        library.export("nuclei", tmp_path / "n.pth")


# lineage ------------------------------------------------------------------------------------------


def test_lineage_says_where_a_model_is_from() -> None:
    model = LibraryModel(name="cells", path=Path("cells.safetensors"), spec=spec_of())
    assert model.lineage == (
        "Trained from nuclei (0123456789ab) on my cells (state fedcba987654), 2026-11-26.",
        "300 steps of 4 crops.",
        "AP 0.610, AP50 0.900 on 12 validation images with 1,345 objects.",
        "Licence: CC0-1.0.",
    )


def test_lineage_of_a_file_that_says_nothing() -> None:
    bare = replace(spec_of(), provenance={})
    assert Origin.of(bare).sentences() == ("The file does not say where it is from.",)
    from_scratch = replace(spec_of(), provenance={"data": "my cells"})
    assert Origin.of(from_scratch).sentences() == ("Trained from random weights on my cells.",)


@given(
    st.dictionaries(
        st.sampled_from([*TRAINED, "start_hash", "ap", "num_images"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["model", "hash", "ap"]), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_provenance_of_any_kind_is_read(provenance: dict[str, Any]) -> None:
    sentences = Origin.of(replace(spec_of(), provenance=provenance)).sentences()
    assert sentences
    assert all(isinstance(text, str) for text in sentences)


def test_the_base_is_found_over_ancestors_that_were_renamed_and_removed(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_weights(network, spec_of(start={"model": "coco-v2", "hash": ""}), first)
    save_weights(network, spec_of(start={"model": "first", "hash": hash_of(first)}), second)
    third = spec_of(start={"model": "second", "hash": hash_of(second)})
    assert library.base_of(third) == ""
    library.add(first)
    library.add(second)
    assert library.base_of(third) == "coco-v2"
    library.rename("first", "other")
    library.remove("second")
    assert library.base_of(third) == "coco-v2"
    by_path = spec_of(start={"model": str(first)})
    assert library.base_of(by_path) == "coco-v2"
    assert library.base_of(replace(third, provenance={})) == ""


def test_a_model_that_names_itself_as_its_start_has_no_base(
    library: ModelLibrary, network: Any, tmp_path: Path
) -> None:
    save_weights(network, spec_of(start={"model": "ring"}), tmp_path / "ring.safetensors")
    library.add(tmp_path / "ring.safetensors")
    assert library.base_of(library.model("ring").spec) == ""


# names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cells", "cells"),
        ("a/b\\c", "a_b_c"),
        ("../../etc", "_._.._etc"),
        (" two  words ", "two words"),
        ("model.PTH", "model"),
        ("v1.2", "v1.2"),
        ("ends. .", "ends"),
        ("CON", "_CON"),
        ("lpt1.x", "_lpt1.x"),
        ("-m", "_m"),
        (".hidden", "_hidden"),
        ("what?*", "what__"),
        ("Zellkerne é", "Zellkerne é"),
        ("x" * 300, "x" * 120),
    ],
)
def test_a_name_is_made_storable(text: str, name: str) -> None:
    assert clean_name(text) == name


@pytest.mark.parametrize("text", ["", "  ", "...", "///", ".safetensors"])
def test_a_name_without_a_letter_is_refused(text: str) -> None:
    with pytest.raises(WeightsError, match="is no name for a model"):
        clean_name(text)


@given(st.text(min_size=1, max_size=200))
def test_a_clean_name_stays_and_can_be_stored(text: str) -> None:
    try:
        name = clean_name(text)
    except WeightsError:
        return
    assert clean_name(name) == name
    assert Path(f"{name}.safetensors").stem == name
    assert len(name.encode()) <= 120
