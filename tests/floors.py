"""The floors of the crates, as `tests/layers.txt` lists them, and the arrows between their modules."""

import dataclasses
import pathlib
from collections.abc import Iterator

import rust_source

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class Floor:
    """A floor: its modules do not use those of a floor that is listed before it."""

    name: str
    modules: list[str]
    purpose: str


@dataclasses.dataclass
class Crate:
    """The floors of one crate, and what is excepted from the rules."""

    name: str
    floors: list[Floor] = dataclasses.field(default_factory=list)
    knots: list[list[str]] = dataclasses.field(default_factory=list)
    private: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def level(self, module: str) -> int | None:
        """Returns the number of a module's floor, 0 for the highest."""
        for number, floor in enumerate(self.floors):
            if module in floor.modules:
                return number
        return None


@dataclasses.dataclass(frozen=True)
class Arrow:
    """A use of one module by another; both are paths such as `rooms/log/memory`."""

    source: str
    target: str
    file: str
    line: int


def read(text: str) -> list[Crate]:
    """Reads the floors of all crates."""
    crates: list[Crate] = []
    for number, line in enumerate(text.splitlines(), 1):
        statement, _, purpose = line.partition("#")[0].partition("|")
        words = statement.replace(":", " : ").split()
        match words:
            case []:
                pass
            case ["crate", name]:
                crates.append(Crate(name))
            case ["floor", name, ":", *modules] if crates:
                crates[-1].floors.append(Floor(name, modules, purpose.strip()))
            case ["knot", ":", *modules] if crates:
                crates[-1].knots.append(modules)
            case ["private", ":", module] if crates:
                crates[-1].private[module] = purpose.split()
            case _:
                raise SystemExit(f"tests/layers.txt:{number}: this line is not understood: {line}")
    return crates


class Source:
    """The code of one crate without its tests: its modules, and what each names."""

    def __init__(self, crate: str, root: pathlib.Path) -> None:
        self.library = crate.replace("-", "_")
        self.code: dict[str, str] = {}
        self.files: dict[str, str] = {}
        tests: set[str] = set()
        folder = root / crate / "src"
        for path in sorted(folder.rglob("*.rs")):
            parts = path.relative_to(folder).with_suffix("").parts
            if "tests" in parts:
                continue
            module = "/".join(parts[:-1] if parts[-1] == "mod" else parts)
            module = "" if module == "lib" else module
            code, names = rust_source.without_tests(rust_source.without_text(path.read_text()))
            self.code[module] = code
            self.files[module] = str(path.relative_to(root))
            tests |= {f"{module}/{name}".lstrip("/") for name in names}
        for module in tests & self.code.keys():
            del self.code[module]
        self.names = {module: dict(self._names(module)) for module in self.code}

    def _names(self, module: str) -> Iterator[tuple[str, list[str]]]:
        for segments, name, _ in rust_source.uses(self.code[module]):
            if absolute := self._absolute(module, segments):
                yield name, absolute

    def _absolute(self, module: str, segments: list[str]) -> list[str] | None:
        """Returns a path from the root of the crate, or nothing for another crate's."""
        base = module.split("/") if module and module != "main" else []
        first, *rest = segments
        if first in ("crate", self.library):
            return rest
        if first == "super":
            while rest[:1] == ["super"]:
                base, rest = base[:-1], rest[1:]
            return base[:-1] + rest
        # Since 2018 a `use` may name a child of the module it stands in, without `self`.
        if first == "self" or "/".join([*base, first]) in self.code:
            return base + (rest if first == "self" else segments)
        return None

    def _target(self, path: list[str], seen: int = 0) -> str:
        """Returns the module that defines what a path names, through the `use` lines of others."""
        length = len(path)
        while length and "/".join(path[:length]) not in self.code:
            length -= 1
        module, rest = "/".join(path[:length]), path[length:]
        # Names may lead from module to module; nine steps are more than anybody writes.
        absolute = self.names.get(module, {}).get(rest[0]) if rest and seen < 9 else None
        return self._target(absolute + rest[1:], seen + 1) if absolute else module

    def arrows(self) -> Iterator[Arrow]:
        """Yields each use of one module by another, as it is written and as it is meant."""
        for module, code in self.code.items():
            found = [(segments, place) for segments, _, place in rust_source.uses(code)]
            for segments, place in [*found, *rust_source.paths(code)]:
                path = self._absolute(module, segments)
                if path is None:
                    continue
                line = rust_source.line_of(code, place)
                written = "/".join(path)
                for target in {self._target(path), self._nearest(written)}:
                    if target and target != module:
                        yield Arrow(module, target, self.files[module], line)

    def _nearest(self, path: str) -> str:
        while path and path not in self.code:
            path = path.rpartition("/")[0]
        return path
