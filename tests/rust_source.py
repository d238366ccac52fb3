"""Reads Rust source text as far as the checks of the code's structure need it.

It is not a parser: it removes comments, strings and test code, and finds paths, `use` trees and the
bodies of functions in what is left. Line numbers and columns stay those of the file.
"""

import re
from collections.abc import Iterator

# A raw string, a string, a character (not a lifetime), or a line comment.
TOKEN = re.compile(
    r'\bb?r(?P<hashes>#*)"(?s:.*?)"(?P=hashes)'
    r'|b?"(?:\\(?s:.)|[^"\\])*"'
    r"|b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])'"
    r"|//[^\n]*"
    r"|/\*"
)
TEST_ATTRIBUTE = re.compile(r"#\[cfg\((?:test|all\(test,[^\]]*)\)\]")
ITEM = re.compile(
    r"\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?"
    r"(?:mod|fn|async|const|static|struct|enum|impl|use|type|trait|unsafe|if|let|macro_rules)\b"
)
PATH = re.compile(r"(?<![\w:])(?:crate|self|super)(?:::(?:\w+|\*))+")
USE = re.compile(r"\buse\s+([^;]*);")
FUNCTION = re.compile(r"\bfn\s+(\w+)")


def blank(text: str) -> str:
    """Replaces everything but line breaks by spaces."""
    return re.sub(r"[^\n]", " ", text)


def line_of(text: str, position: int) -> int:
    """Returns the number of the line at a position, from 1."""
    return text.count("\n", 0, position) + 1


def end_of_comment(text: str, start: int) -> int:
    """Returns where the block comment ends that begins at `start`; such comments nest."""
    depth = 0
    for token in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if token.group() == "/*" else -1
        if depth == 0:
            return token.end()
    return len(text)


def without_text(source: str) -> str:
    """Blanks comments, strings and characters."""
    parts, position = [], 0
    while token := TOKEN.search(source, position):
        end = end_of_comment(source, token.start()) if token.group() == "/*" else token.end()
        parts += [source[position : token.start()], blank(source[token.start() : end])]
        position = end
    return "".join(parts) + source[position:]


def end_of_block(code: str, start: int) -> int:
    """Returns the position after the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(code)):
        if code[position] in "([{":
            depth += 1
        elif code[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
    return len(code)


def end_of_item(code: str, start: int) -> int:
    """Returns where the item, field, arm or statement at `start` ends."""
    ends = ";" if ITEM.match(code, start) else ";,"
    position = start
    while position < len(code):
        if code[position] in ends:
            return position + 1
        if code[position] in "([{":
            is_block = code[position] == "{"
            position = end_of_block(code, position)
            if is_block and not re.match(r"\s*[;,]", code[position:]):
                return position
        elif code[position] in ")]}":
            return position
        else:
            position += 1
    return position


def without_tests(code: str) -> tuple[str, set[str]]:
    """Blanks what `#[cfg(test)]` covers; returns the names of test modules in files too."""
    modules = set()
    while attribute := TEST_ATTRIBUTE.search(code):
        end = end_of_item(code, attribute.end())
        if name := re.match(r"\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", code[attribute.end() : end]):
            modules.add(name.group(1))
        code = code[: attribute.start()] + blank(code[attribute.start() : end]) + code[end:]
    return code, modules


def leaves(tree: str, offset: int) -> Iterator[tuple[list[str], str, int]]:
    """Yields each path of a `use` tree: its segments, the name it gets, and its position."""
    start, depth = 0, 0
    for position, character in enumerate(tree + ","):
        depth += (character == "{") - (character == "}")
        if character != "," or depth > 0:
            continue
        part, place = tree[start:position], offset + start
        start = position + 1
        head, brace, _ = part.partition("{")
        segments = [one.strip() for one in head.split("::") if one.strip()]
        if brace:
            inside = part[len(head) + 1 : part.rindex("}")]
            for nested, name, nested_place in leaves(inside, place + len(head) + 1):
                yield segments + nested, name, nested_place
        elif segments:
            path, _, alias = segments[-1].partition(" as ")
            place += len(part) - len(part.lstrip())
            yield [*segments[:-1], path.strip()], (alias or path).strip(), place


def uses(code: str) -> Iterator[tuple[list[str], str, int]]:
    """Yields the paths of all `use` declarations: segments, name, and position."""
    for declaration in USE.finditer(code):
        yield from leaves(declaration.group(1), declaration.start(1))


def paths(code: str) -> Iterator[tuple[list[str], int]]:
    """Yields the paths in code outside `use` declarations that begin with crate, self or super."""
    rest = USE.sub(lambda found: blank(found.group()), code)
    rest = re.sub(r"\bpub\s*\(in [^)]*\)", lambda found: blank(found.group()), rest)
    for found in PATH.finditer(rest):
        yield found.group().split("::"), found.start()


def functions(code: str) -> Iterator[tuple[str, int, int]]:
    """Yields each function with a body: its name, its line, and how many lines the body has."""
    for found in FUNCTION.finditer(code):
        position = found.end()
        while position < len(code) and code[position] not in ";{":
            position = end_of_block(code, position) if code[position] in "([" else position + 1
        if position < len(code) and code[position] == "{":
            lines = code.count("\n", position, end_of_block(code, position)) - 1
            yield found.group(1), line_of(code, found.start()), max(lines, 0)
