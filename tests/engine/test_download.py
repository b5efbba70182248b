"""Fetching a file from a real server on this computer: whole, checked, or nothing."""

import hashlib
import socket
import threading
from pathlib import Path

import pytest
from tests.engine.file_server import FileServer

from napari_deeppixel.core.errors import RunCancelled, WeightsError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.download import cached_path, fetch

# more than one chunk of 256 KiB
CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_file_with_the_right_hash_lands_in_torchs_cache(
    server: FileServer, torch_home: Path
) -> None:
    name = f"model-{DIGEST[:8]}.pth"
    server.content[f"/models/{name}"] = CONTENT
    steps: list[Progress] = []
    path = fetch(f"{server.url}/models/{name}", on_progress=steps.append)
    assert path == torch_home / "hub" / "checkpoints" / name
    assert path.read_bytes() == CONTENT
    assert files_in(torch_home) == [name]
    fractions = [step.fraction for step in steps]
    assert len(fractions) >= 4
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.3
    assert fractions[-1] == 1
    assert steps[-1].message == f"downloading model-{DIGEST[:8]}: 1 MB"


def test_a_file_that_is_there_is_not_fetched_again(server: FileServer) -> None:
    server.content["/model.pth"] = CONTENT
    first = fetch(f"{server.url}/model.pth")
    assert fetch(f"{server.url}/model.pth") == first
    assert server.requests == 1
    # not even asked for: it may have been put there by hand, without a network
    by_hand = cached_path("http://127.0.0.1:9/other.pth")
    by_hand.write_bytes(b"weights")
    assert fetch("http://127.0.0.1:9/other.pth").read_bytes() == b"weights"


def test_a_query_is_no_part_of_the_file_name(server: FileServer) -> None:
    server.content["/model.pth?download=1"] = CONTENT
    assert fetch(f"{server.url}/model.pth?download=1").name == "model.pth"


def test_a_wrong_hash_is_refused_and_nothing_stays(server: FileServer, torch_home: Path) -> None:
    server.content["/model-0123abcd.pth"] = CONTENT
    with pytest.raises(WeightsError, match=rf"{DIGEST[:8]}…, expected 0123abcd…"):
        fetch(f"{server.url}/model-0123abcd.pth")
    assert files_in(torch_home) == []


def test_a_body_that_ends_too_early_is_refused_and_nothing_stays(
    server: FileServer, torch_home: Path
) -> None:
    server.content["/model.pth"] = CONTENT
    server.claimed_length = len(CONTENT) + 5
    with pytest.raises(WeightsError, match=r"model\.pth"):
        fetch(f"{server.url}/model.pth")
    assert files_in(torch_home) == []


def test_a_server_that_tells_no_length_is_read_to_its_end(server: FileServer) -> None:
    server.content["/model.pth"] = CONTENT
    server.claimed_length = -1
    steps: list[Progress] = []
    path = fetch(f"{server.url}/model.pth", on_progress=steps.append)
    assert path.read_bytes() == CONTENT
    assert {step.fraction for step in steps} == {0.0}


def test_a_missing_file_is_an_error_that_says_where_to_put_it(
    server: FileServer, torch_home: Path
) -> None:
    with pytest.raises(WeightsError, match="404") as caught:
        fetch(f"{server.url}/model.pth")
    assert f"put it at {torch_home / 'hub' / 'checkpoints' / 'model.pth'}" in str(caught.value)
    assert files_in(torch_home) == []


def test_without_a_network_the_error_says_where_to_put_the_file(torch_home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/model-bf2d0c1e.pth"
    with pytest.raises(WeightsError, match="Without a network") as caught:
        fetch(url)
    where = torch_home / "hub" / "checkpoints" / "model-bf2d0c1e.pth"
    assert str(where) in str(caught.value)
    assert url in str(caught.value)
    assert files_in(torch_home) == []


def test_an_answer_that_is_no_http_is_a_weights_error(torch_home: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"SSH-2.0 nothing here\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/model.pth")
    thread.join()
    listener.close()
    assert files_in(torch_home) == []


def test_cancel_stops_the_download_and_nothing_stays(server: FileServer, torch_home: Path) -> None:
    server.content["/model.pth"] = CONTENT
    cancel = CancelToken()
    steps: list[Progress] = []

    def stop(progress: Progress) -> None:
        steps.append(progress)
        cancel.cancel()

    with pytest.raises(RunCancelled):
        fetch(f"{server.url}/model.pth", cancel=cancel, on_progress=stop)
    assert len(steps) == 1
    assert files_in(torch_home) == []
    # and the next try works
    assert fetch(f"{server.url}/model.pth").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_a_weights_error(
    server: FileServer, torch_home: Path
) -> None:
    server.content["/model.pth"] = CONTENT
    torch_home.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch(f"{server.url}/model.pth")
