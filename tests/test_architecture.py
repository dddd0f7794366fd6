"""The house is as docs/architecture.md draws it: rooms, arrows, no circles, folders and files of a readable size."""

from __future__ import annotations

import re
from collections import Counter
from graphlib import TopologicalSorter

from rooms import CORE, PAGE, PICTURE, PLUGINS, ROOT, late, neighbours, picture, room, room_of, rooms

FILES, LINES = 12, 300  # of a folder, of a file, at most

UPWARDS = {("run", "report")}  # Run.plot, when somebody asks for a plot: said below the picture


def test_every_room_and_every_plugin_package_has_one_paragraph() -> None:
    packages = {f"plugins/{path.parent.name}" for path in (ROOT / "plugins").glob("*/__init__.py")}
    sections = re.split(r"^#{2,3} (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    said = {title: text.strip() for title, text in zip(sections[1::2], sections[2::2], strict=True)}
    titles = re.findall(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(titles) == sorted(rooms() | packages), "a room without a paragraph, or a paragraph without a room"
    for title in titles:
        assert said[title], f"'{title}' has a heading and no paragraph"
        assert "\n\n" not in said[title], f"'{title}' has more than one paragraph"


def test_the_picture_shows_the_imports() -> None:
    assert PICTURE.findall(PAGE.read_text()) == [picture()], "draw it again: python tests/architecture/rooms.py"


def test_no_room_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(neighbours()).prepare()  # raises CycleError, which names the circle


def test_what_is_imported_by_name_at_run_time_is_known() -> None:
    assert {(room_of(path), room(name)) for path in CORE for name in late(path)} == UPWARDS


def test_no_folder_has_more_files_than_can_be_looked_over() -> None:
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in CORE + PLUGINS)
    assert not {folder for folder, count in counts.items() if count > FILES}


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in CORE + PLUGINS}
    assert not {file for file, count in counts.items() if count > LINES}
