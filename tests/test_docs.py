"""The papers under test: their links resolve, each page and each room is reached, the files they name are there, and
nothing in the repository knows the machine it was written on.

The settings and the command's verbs have tests of their own, beside what they describe.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "posthouse"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE_FILE = re.compile(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*\.(?:py|sql))`")


def name_of(path: Path) -> str:
    """A path as a person would write it."""
    return path.relative_to(ROOT).as_posix()


def links(page: Path) -> Iterator[tuple[str, Path]]:
    """Every relative link of a page, as it is written and as it leads."""
    for target in _LINK.findall(page.read_text()):
        if not re.match(r"[a-z]+:", target):
            path, _, _ = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def sources() -> list[Path]:
    """What is written by hand: everything but what programs make beside it."""
    folders = [ROOT / name for name in ("docs", "src", "tests", "bench", "bin", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return [path for path in files if "__pycache__" not in path.parts]


def rooms() -> list[str]:
    """The rooms of the house as road.md writes them: `queue/`, `journey.py`."""
    folders = [path.parent for path in SOURCE.glob("*/*.py") if path.name != "__init__.py"]
    files = [path for path in SOURCE.glob("*.py") if not path.name.startswith("__")]
    return sorted({f"{folder.name}/" for folder in folders} | {file.name for file in files})


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    for written, target in links(page):
        assert target.exists(), f"{name_of(page)}: {written}"
        assert target.is_relative_to(ROOT), f"{name_of(page)}: {written} leads out of the repository"
        _, _, anchor = written.partition("#")
        assert not anchor or anchor in headings(target), f"{name_of(page)}: {written}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.suffix == ".md":
            ahead += [target for _, target in links(page) if target.exists()]
        elif page.is_dir():
            ahead += page.iterdir()
    papers = {path for path in DOCS.rglob("*") if path.is_file()}
    assert not [name_of(path) for path in sorted(papers - reached)]


# --- the house --------------------------------------------------------------------------------------------------------


def _rows_of_the_house() -> str:
    road = (DOCS / "road.md").read_text()
    return "\n".join(re.findall(r"^\| \d+ \|.*$", road, re.MULTILINE))


@pytest.mark.parametrize("room", rooms())
def test_every_room_has_its_row_and_its_page(room: str) -> None:
    """Its name in road.md's table is a link, to a page that speaks of it."""
    rows = _rows_of_the_house()
    found = [target for text, target in re.findall(r"\[([^\]]*)\]\(([^)]+)\)", rows) if f"`{room}`" in text]
    assert found, f"docs/road.md has no row for {room}"
    page = DOCS / found[0]
    assert page.is_file(), f"{room}: docs/{found[0]} is not there"
    assert room.removesuffix("/").removesuffix(".py") in page.read_text(), f"docs/{found[0]} does not speak of {room}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """By the end of their path, as pages of a room leave the beginning out."""
    known = [f"/{name_of(path)}" for path in sources()]
    for named in _CODE_FILE.findall(page.read_text()):
        assert any(path.endswith(f"/{named}") for path in known), f"{name_of(page)}: there is no {named}"


def test_where_a_change_goes_is_still_there() -> None:
    """In the last table of road.md each name in a row is found in one of the files of that row."""
    _, _, table = (DOCS / "road.md").read_text().partition("## Where does a change go?")
    rows = re.findall(r"^\| (?!you want|---)(.*) \|$", table, re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        spans = re.findall(r"`([^`]+)`", row)
        files = [
            path for span in spans for path in (SOURCE / span, *SOURCE.glob(f"store/sql/{span}")) if path.is_file()
        ]
        text = "\n".join(path.read_text() for path in files)
        names = [span for span in spans if re.fullmatch(r"\w+", span)]
        assert not names or files, f"no file stands beside {names}"
        for name in names:
            assert re.search(rf"\b{name}\b", text), f"{name} is not in {[name_of(path) for path in files]}"


def test_the_manuals_of_settings_and_command_are_there() -> None:
    assert (DOCS / "configuration.md").is_file()
    assert (DOCS / "cli.md").is_file()


def test_decisions_are_numbered_and_named_alike() -> None:
    for number, path in enumerate(sorted((DOCS / "decisions").iterdir()), 1):
        assert re.fullmatch(rf"{number:04}-[a-z0-9-]+\.md", path.name), path.name
        assert path.read_text().startswith(f"# {number:04}: "), path.name


# --- libraries --------------------------------------------------------------------------------------------------------

# How a library is imported, where that is not its own name.
_IMPORTED_AS = {"dnspython": "dns", "charset-normalizer": "charset_normalizer"}


def _third_party() -> dict[str, set[str]]:
    """By library, the files of src/posthouse that import it."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                library = module.partition(".")[0]
                if library != "posthouse" and library not in sys.stdlib_module_names:
                    found.setdefault(library, set()).add(path.relative_to(SOURCE).with_suffix("").as_posix())
    return found


def test_dependencies_tells_where_each_library_enters() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \|[^|]*\| (`[^|]+) \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE)
    told = {_IMPORTED_AS.get(name, name): set(re.findall(r"`([^`]+)`", doors)) for name, doors in rows}
    imported = _third_party()
    assert told.keys() == imported.keys()
    for library, files in imported.items():
        entered = {next((door for door in told[library] if f"{file}/".startswith(door)), file) for file in files}
        assert entered == told[library], f"docs/dependencies.md: {library}"


def test_every_declared_dependency_is_imported_and_no_other() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[<>=;\[ ]", dependency)[0] for dependency in declared]
    assert {_IMPORTED_AS.get(name, name) for name in names} == _third_party().keys()


# --- nothing of the machine -------------------------------------------------------------------------------------------

# Written apart, so that this file does not hold them.
_FOREIGN = [
    re.compile(pattern)
    for pattern in (r"/wo" r"rk/", r"/ro" r"ot/", r"\bpy" r"pi\.", r"python" r"hosted", r"\bnpm" r"js\.")
]
# Where a machine keeps its Pythons is for the gate alone to know.
_PYENV = re.compile(r"\.py" r"env")


def test_no_file_knows_a_machine_or_a_registry() -> None:
    found = []
    for path in sources():
        text = path.read_bytes().decode("utf-8", "replace")
        patterns = _FOREIGN if path.parent.name == ".ci" else [*_FOREIGN, _PYENV]
        found += [f"{name_of(path)}: {match[0]}" for pattern in patterns if (match := pattern.search(text))]
    assert not found


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=name_of)
def test_requirements_name_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )
    unpinned = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line) and "==" not in line]
    assert not unpinned
