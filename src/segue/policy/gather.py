"""The files of a deployment, and what they name for each other: journeys, segments, stages, joins, caps, campaigns,
quiet hours and tables.

Law: everything here is known before the first expression is compiled, so files may refer to each other in any
order. A name has one meaning in a deployment; indexes follow the order of the policies' names.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from segue.errors import PolicyError, did_you_mean
from segue.events.names import PURPOSES
from segue.limits import (
    CAMPAIGNS_MAX,
    CAPS_MAX,
    JOINS_MAX,
    JOURNEYS_MAX,
    POLICY_BYTES_MAX,
    QUIET_HOURS_MAX,
    SEGMENTS_MAX,
    STAGES_MAX,
    TABLE_FIELDS_MAX,
)
from segue.policy import ir, model
from segue.policy.compiled import TABLE_NAMES, TableField, TableInfo
from segue.policy.model import STEP
from segue_kernels import plan

TABLE_KINDS = ("number", "text")
UNKNOWN_CONSENT = ("granted", "withheld")
# columns of a table's file that are no fields (reference/files.py)
TABLE_KEYS = {
    "catalogue": ("valid_from", "product_id", "product"),
    "price": ("valid_from", "product_id", "product"),
    "stock": ("valid_from", "product_id", "product", "store_id", "store"),
    "profile": ("valid_from", "customer", "user_id", "loyalty_id", "kind"),
}
TABLE_NUMBER_MAX = 9e12  # times LOOKUP_SCALE it is still an int64
# what events bring along: there without being declared
ALONG_THE_WAY = {"price": ("amount",), "stock": ("quantity",)}
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
CHANGE = re.compile(r"""\s*(\w+)\s*\(\s*(?:"([^"]*)"|'([^']*)')\s*\)\s*""")
CHANGE_WORDS = ("entered", "left", "stage")
CHANGE_HINT = 'entered("segment"), left("segment") or stage("stage"), in \'...\''
ACTION = re.compile(r"""\s*action\s*(?:\(\s*(?:"([^"]*)"|'([^']*)')\s*\))?\s*""")


@dataclass(frozen=True, slots=True)
class Source:
    """A policy file that has been read."""

    path: Path
    data: bytes
    file: model.PolicyFile

    def fail(self, path: str, message: str, hint: str) -> NoReturn:
        raise PolicyError(STEP, f"{self.path}: `{path}`: {message}", hint)


def read_sources(paths: Sequence[str | Path]) -> list[Source]:
    """The policies of these files and folders (their *.toml), each once, by name."""
    read = [Source(path, data, model.read_policy(data, str(path))) for path, data in _files(paths)]
    read.sort(key=lambda source: source.file.policy)
    for before, after in pairwise(read):
        if before.file.policy == after.file.policy:
            raise PolicyError(
                STEP,
                f'{after.path}: `$.policy`: "{after.file.policy}" is the name of {before.path} too',
                "give every policy a name of its own",
            )
    return read


def _files(paths: Sequence[str | Path]) -> list[tuple[Path, bytes]]:
    """Each file once, with its bytes."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.glob("*.toml"))
            if not inside:
                raise PolicyError(STEP, f"there is no *.toml file in the folder {path}", "name a policy file")
            found.update({file.resolve(): file for file in inside})
        elif path.exists():
            found[path.resolve()] = path
        else:
            near = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
            hint = (
                did_you_mean(path.name, near)
                if near
                else "give the path of a policy file or a folder of them"
            )
            raise PolicyError(STEP, f"there is no file or folder {path}", hint)
    loaded = []
    for file in found.values():
        try:
            with file.open("rb") as opened:
                loaded.append((file, opened.read(POLICY_BYTES_MAX + 1)))
        except OSError as error:
            raise PolicyError(STEP, f"{file}: {error.strerror}", "check the file's permissions") from error
    return loaded


@dataclass(slots=True)
class Names:
    """Indexes by id. `lookups`: (table, field) -> row of plan.LOOKUPS, in the order of first use.

    granted  the purposes for which consent is taken for granted where nothing is known
    """

    journeys: dict[str, int] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)
    joins: dict[str, int] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)
    campaigns: dict[str, int] = field(default_factory=dict)
    tables: tuple[TableInfo, ...] = ()
    lookups: dict[tuple[str, str], int] = field(default_factory=dict)
    granted: tuple[str, ...] = ()

    def columns(self) -> dict[str, dict[str, str]]:
        """The kind of every field of every table that may be read."""
        return {table.name: {f.name: f.kind for f in table.fields} for table in self.tables if table.fields}

    def lookup(self, table: str, name: str) -> tuple[int, str]:
        """The row of plan.LOOKUPS and the kind of a field; KeyError if there is none."""
        kind = self.columns()[table][name]
        return self.lookups.setdefault((table, name), len(self.lookups)), kind

    def change(self, source: Source, path: str, text: str) -> int | None:
        """The code of a change (plan.py) that an entry of `on` names; None if it names an event."""
        if "(" not in text and ")" not in text:
            return None
        found = CHANGE.fullmatch(text)
        if found is None:
            source.fail(path, f"`{text}` is not a change", CHANGE_HINT)
        word, name = found[1], found[2] if found[2] is not None else found[3]
        if word not in CHANGE_WORDS:
            source.fail(path, f"there is no change `{word}`", did_you_mean(word, CHANGE_WORDS))
        if word == "stage":
            index = known(source, path, "stage", name, self.stages)
            return 2 * len(self.segments) + index
        return 2 * known(source, path, "segment", name, self.segments) + (word == "left")


def known(source: Source, path: str, what: str, name: str, among: dict[str, int]) -> int:
    """The index of a name, or an error with the nearest one."""
    if name not in among:
        hint = did_you_mean(name, tuple(among)) if among else f'declare it: [[{what}s]] id = "{name}"'
        source.fail(path, f'there is no {what} "{name}"', hint)
    return among[name]


def gather(sources: Sequence[Source], hash_text: Callable[[str], int]) -> Names:
    """All names of these files, sorted by policy; `hash_text` as for text in expressions."""
    names = Names()
    names.journeys = _unique("journey", JOURNEYS_MAX, ((s, [j.id for j in s.file.journeys]) for s in sources))
    names.segments = _unique("segment", SEGMENTS_MAX, ((s, [x.id for x in s.file.segments]) for s in sources))
    names.joins = _unique("join", JOINS_MAX, ((s, [x.id for x in s.file.joins]) for s in sources))
    names.caps = _unique("cap", CAPS_MAX, ((s, [x.id for x in s.file.caps]) for s in sources))
    names.campaigns = _unique(
        "campaign", CAMPAIGNS_MAX, ((s, [x.id for x in s.file.campaigns]) for s in sources)
    )
    _unique(
        "time of quiet",
        QUIET_HOURS_MAX,
        ((s, [x.id for x in s.file.quiet_hours]) for s in sources),
        field="quiet_hours",
    )
    with_stages = [source for source in sources if source.file.stages]
    if len(with_stages) > 1:
        with_stages[1].fail(
            "$.stages",
            f"the stages are defined in {with_stages[0].path} already",
            "a deployment has one list of stages, in one policy",
        )
    names.stages = _unique("stage", STAGES_MAX, ((s, [x.id for x in s.file.stages]) for s in with_stages))
    names.tables = _tables(sources, hash_text)
    names.granted = _granted(sources)
    return names


def _granted(sources: Sequence[Source]) -> tuple[str, ...]:
    """The purposes that are declared with unknown = "granted"."""
    declaring = [source for source in sources if source.file.purposes]
    if len(declaring) > 1:
        declaring[1].fail(
            "$.purposes",
            f"the purposes are declared in {declaring[0].path} already",
            "a deployment says once what counts as consent, in one policy",
        )
    unknown: dict[str, str] = {}
    for source in declaring:
        for i, purpose in enumerate(source.file.purposes):
            path = f"$.purposes[{i}]"
            if purpose.id not in PURPOSES:
                source.fail(
                    f"{path}.id", f'there is no purpose "{purpose.id}"', did_you_mean(purpose.id, PURPOSES)
                )
            if purpose.id in unknown:
                source.fail(f"{path}.id", f'"{purpose.id}" stands here twice', "declare each purpose once")
            if purpose.unknown not in UNKNOWN_CONSENT:
                source.fail(
                    f"{path}.unknown",
                    f'consent that is not known is not "{purpose.unknown}"',
                    did_you_mean(purpose.unknown, UNKNOWN_CONSENT),
                )
            unknown[purpose.id] = purpose.unknown
    return tuple(name for name in PURPOSES if unknown.get(name) == "granted")


def _unique(
    what: str, most: int, listed: Iterable[tuple[Source, list[str]]], field: str = ""
) -> dict[str, int]:
    """Index by id. `field`: what lists them in a file, if it is not `what` with an s."""
    index: dict[str, int] = {}
    place: dict[str, Path] = {}
    for source, ids in listed:
        for i, name in enumerate(ids):
            path = f"$.{field or f'{what}s'}[{i}]"
            if name in index:
                source.fail(
                    f"{path}.id",
                    f'"{name}" is the id of a {what} in {place[name]} too',
                    f"{what} ids are unique in a deployment",
                )
            if len(index) >= most:
                source.fail(path, f"there are more than {most} {what}s", "load fewer policies")
            index[name] = len(index)
            place[name] = source.path
    return index


def _tables(sources: Sequence[Source], hash_text: Callable[[str], int]) -> tuple[TableInfo, ...]:
    """All tables in the order of plan.TABLE_*; those nobody declares have the fields that events bring."""
    declared: dict[str, tuple[Source, TableInfo]] = {}
    for source in sources:
        for i, table in enumerate(source.file.tables):
            path = f"$.tables[{i}]"
            if table.name not in TABLE_NAMES:
                source.fail(
                    f"{path}.name", f'there is no table "{table.name}"', did_you_mean(table.name, TABLE_NAMES)
                )
            if table.name in declared:
                source.fail(
                    f"{path}.name",
                    f'"{table.name}" is declared in {declared[table.name][0].path} too',
                    "a table is declared once in a deployment: put all its fields there",
                )
            declared[table.name] = source, _table(source, path, table, hash_text)
    return tuple(
        declared[name][1] if name in declared else TableInfo(name, _along_the_way(name))
        for name in TABLE_NAMES
    )


def _along_the_way(table: str) -> tuple[TableField, ...]:
    return tuple(TableField(name, "number", 0) for name in ALONG_THE_WAY.get(table, ()))


def _table(source: Source, path: str, table: model.Table, hash_text: Callable[[str], int]) -> TableInfo:
    # what events bring stands first, so that its place does not depend on what else is declared
    kinds = {brought.name: brought.kind for brought in _along_the_way(table.name)}
    if not table.fields:
        source.fail(f"{path}.fields", "a table has at least one field", 'fields = { margin = "number" }')
    for name, kind in table.fields.items():
        at = f"{path}.fields.{name}"
        if not FIELD_NAME.fullmatch(name) or keyword.iskeyword(name):
            source.fail(at, f'"{name}" is no name of a field', "small letters, digits and _: margin_rate")
        if name in TABLE_KEYS[table.name]:
            source.fail(at, f'"{name}" is a key, not a field', "name the other columns that are to be read")
        if kind not in TABLE_KINDS:
            source.fail(at, f'a field is not "{kind}"', did_you_mean(kind, TABLE_KINDS))
        if name in kinds and kind != kinds[name]:
            source.fail(at, f"`{table.name}.{name}` is a {kinds[name]}", "it is what events bring along")
        kinds[name] = kind
    if len(kinds) > TABLE_FIELDS_MAX:
        source.fail(
            f"{path}.fields", f"there are more than {TABLE_FIELDS_MAX} fields", "declare those in use"
        )
    unknown = dict.fromkeys(kinds, 0)
    for name, value in table.unknown.items():
        at = f"{path}.unknown.{name}"
        if name not in kinds:
            source.fail(at, f'the table has no field "{name}"', did_you_mean(name, tuple(kinds)))
        if isinstance(value, str) != (kinds[name] == "text"):
            source.fail(
                at,
                f"this is {'text' if isinstance(value, str) else 'a number'}, the field is a {kinds[name]}",
                'text stands in quotes, a number without: unknown = { margin = 0.0, brand = "" }',
            )
        if isinstance(value, str):
            unknown[name] = hash_text(value) if value else 0
        else:
            if not abs(value) <= TABLE_NUMBER_MAX:
                source.fail(at, "this number is too large", f"at most {TABLE_NUMBER_MAX:g}")
            unknown[name] = round(value * plan.LOOKUP_SCALE)
    return TableInfo(table.name, tuple(TableField(name, kind, unknown[name]) for name, kind in kinds.items()))


@dataclass(frozen=True, slots=True)
class Left:
    """What feeds the left side of a join: `type` of its stream, and its plan.JOIN_LEFT_JOURNEY."""

    type: int
    journey: int


def left_side(
    source: Source, path: str, text: str, join: int, names: Names, event_type: Callable[[str], int]
) -> Left:
    """An event's name, "action", or 'action("journey")'."""
    found = ACTION.fullmatch(text)
    if found is None:
        return Left(event_type(text), plan.JOIN_LEFT_EVENT)
    journey = found[1] if found[1] is not None else found[2]
    if journey is None:
        return Left(plan.JOIN_TYPE + join, plan.JOIN_LEFT_ANY_ACTION)
    index = known(source, path, "journey", journey, names.journeys)
    # not of the journey's sends: those outlive what a customer did, this does not
    return Left(plan.JOIN_TYPE + join, index)


def left_stream(join: int, left: Left, by: int) -> ir.Stream:
    """The stream of a join's unmatched left sides: each join has its own, told apart by `field`."""
    return ir.Stream(by, left.type, plan.LEFT, field=join + 1)


def match_stream(join: int) -> ir.Stream:
    """The stream of a join's matches, kept if an expression asks for them."""
    return ir.Stream(plan.BY_NONE, plan.JOIN_TYPE + join, plan.COUNT)
