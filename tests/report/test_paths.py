"""Folders of a machine are cut out of text that is published."""

from __future__ import annotations

import pytest

from vitprof.report.paths import name_without_folders, without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/x/net.onnx", "…/net.onnx"),
        ("cannot read '/home/John Doe/x/y z.onnx': no", "cannot read '…/y z.onnx': no"),
        ("import /tmp/timm.csv", "import …/timm.csv"),
        ("~/models/a.py:make and ~me/b.py", "…/a.py:make and …/b.py"),
        ("/somewhere/else/net.onnx:12", "…/net.onnx:12"),
        ("C:\\Users\\me\\x.onnx or \\\\server\\share\\x.csv", "…/x.onnx or …/x.csv"),
        ("file:///home/me/x", "…/x"),
        ("IOError:/home/me/x.onnx, me@host:/home/me/y", "IOError:…/x.onnx, me@host:…/y"),
        ("PATH=/usr/bin:/home/me/bin", "PATH=…/bin:…/bin"),
        ("--data=/srv/a/b, `/opt/x/bin/python -m y`", "--data=…/b, `…/python -m y`"),
        # No path of a file system.
        ("node /blocks.0/attn/MatMul failed", "node /blocks.0/attn/MatMul failed"),
        ("see https://example.org/home/x.html", "see https://example.org/home/x.html"),
        ("models/a.py:make, 3/4, GMAC/s", "models/a.py:make, 3/4, GMAC/s"),
        ("", ""),
    ],
)
def test_of_a_path_its_last_part_is_left(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_the_folders_of_a_model_are_known_with_their_blanks() -> None:
    model = "/home/John Doe/my nets/a b.onnx"
    assert name_without_folders(model) == "…/a b.onnx"
    assert name_without_folders("C:\\Users\\John Doe\\nets\\a.py:make") == "…/a.py:make"
    assert without_folders(f"{model}: no operator; see /tmp/x/a.log", model) == "…/a b.onnx: no operator; see …/a.log"
    # What is no path from the top stays, and so does the text that it is in.
    for name in ("my nets/a b.onnx", "timm/vit_tiny", "", "/"):
        assert name_without_folders(name) == name and without_folders(f"{name}: no", name) == f"{name}: no"


def test_long_text_takes_no_long_time() -> None:
    # A pattern that goes back over what it read would not end.
    without_folders("/home/" + "a/" * 50_000 + "'" + "/x" * 50_000)
