"""The house stands on floors (docs/road.md): a file imports only from lower floors, rooms on one floor don't import
each other, the pure rooms touch nothing of the machine, and each third-party library enters through one file or room.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "posthouse"

FLOORS: dict[str, int] = {
    "terms": 1, "limits": 1, "clock": 1, "written": 1,
    "config": 2, "observe": 2,
    "net": 3, "wire": 3, "message": 3,
    "store": 4, "sieve": 4,
    "mailbox": 5, "trust": 5, "journey": 5,
    "directory": 6, "transfer": 6, "timeline": 6,
    "policy": 7, "queue": 7,
    "relay": 8, "delivery": 8, "reports": 8,
    "reception": 9,
    "submission": 10,
    "smtpd": 11, "imapd": 11, "pop3d": 11, "sieved": 11, "jmapd": 11, "httpd": 11,
    "hooks": 12, "outward": 12, "housekeeping": 12,
    "app": 13,
    "cli": 14,
}  # fmt: skip

PURE_ROOMS = {"terms", "wire", "message", "sieve"}
MACHINE = {"asyncio", "socket", "ssl", "os", "time", "random", "secrets", "logging", "threading", "subprocess"}

# Where a library may be imported. docs/dependencies.md gives the reasons, also for the ones with two doors.
ENTRANCES: dict[str, set[str]] = {
    "apsw": {"store"},
    "uvloop": {"net/stream"},
    "dns": {"net/dns", "net/nameserver"},
    "cryptography": {"net/tls", "trust"},
    "msgspec": {"config", "journey", "message/mime"},
    "idna": {"terms/address"},
    "charset_normalizer": {"message/text"},
    "click": {"cli"},
}

FILES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`store/sqlite` for src/posthouse/store/sqlite.py."""
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module imported in a file, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "posthouse":
                for alias in node.names:
                    yield f"posthouse.{alias.name}", node.lineno
            else:
                yield node.module or "", node.lineno


def room_of(module: str) -> str:
    """The room that a module of ours belongs to."""
    return module.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    room = name_of(path).split("/")[0]
    if room in ("__init__", "__main__"):
        return
    floor = FLOORS[room]
    for module, line in imports(path):
        if module.startswith("posthouse.") and room_of(module) != room and room_of(module) != "__version__":
            other = FLOORS[room_of(module)]
            assert other < floor, f"{path}:{line}: {room} (floor {floor}) imports {module} (floor {other})"


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).split("/")[0] in PURE_ROOMS], ids=name_of)
def test_pure_rooms_do_not_touch_the_machine(path: Path) -> None:
    for module, line in imports(path):
        assert module.split(".")[0] not in MACHINE, f"{path}:{line}: imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_libraries_enter_by_their_doors(path: Path) -> None:
    name = name_of(path)
    for module, line in imports(path):
        library = module.split(".")[0]
        if library in sys.stdlib_module_names or library == "posthouse":
            continue
        assert library in ENTRANCES, f"{path}:{line}: {library} is in no list of docs/dependencies.md"
        doors = ENTRANCES[library]
        assert name in doors or name.split("/")[0] in doors, f"{path}:{line}: {library} enters by {sorted(doors)}"


def test_there_is_no_import_cycle() -> None:
    graph = {
        f"posthouse.{name_of(path).replace('/', '.')}".removesuffix(".__init__"): [
            module for module, _ in imports(path) if module.startswith("posthouse")
        ]
        for path in FILES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for other in graph.get(module, []):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent != SOURCE:
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, f"{path} holds more than a docstring"
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} lacks its docstring"


def test_every_module_opens_with_what_it_is_for() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} lacks a docstring"
