"""Intermediate form → machine code, emitted as LLVM IR directly; a function a program.

Law: a function gives the bits the interpreter gives: no fast-math, no contraction, sums in the order written;
exp, exp2 and log1p are those of Python's own math library. They only read the row, the record and the locations.

    double p<i>(const int64 *row, int64 now, const int64 *record, const int64 *location)

Object files are kept on disk by a hash of IR, CPU with its features and llvmlite's version; a damaged one is
compiled again. The functions live as long as the NativePrograms they came with.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt

from segue.policy import ir
from segue.policy.interpret import interpret_constant
from segue.policy.plan import Layout, entry_words
from segue_kernels import plan, record
from segue_kernels.jit import cache_folder
from segue_kernels.row import SEGMENTS, STAGE

UNROLLED_MAX = 64  # entries read without a loop
LANES = (8, 4, 2, 1)  # entries compared at once
TABLE_MAX = 64  # a function of a count up to this is read from a table
CHEAP_MAX = 8  # a right operand up to this cost is evaluated at once: cheaper than a jump foretold wrongly
DIGEST_BYTES = 32  # in front of a kept object file: SHA-256 of what follows
OBJECT_FILES_MAX = 256  # kept on disk; the oldest go
OPTIMISATION = 2

_COMPARISON = {"==": "oeq", "!=": "une", "<": "olt", "<=": "ole", ">": "ogt", ">=": "oge"}
_ARITHMETIC = {"+": "fadd", "-": "fsub", "*": "fmul"}
_MATH_SYMBOLS = {"exp": "segue_exp", "exp2": "segue_exp2", "log1p": "segue_log1p"}

# the greatest of an entry's n newest times after %after that is at most %bound, else -1
_LATEST = """
define internal i64 @latest(ptr %entry, i64 %n, i64 %after, i64 %bound) nounwind noinline {
begin:
%possible = icmp sgt i64 %bound, 0
br i1 %possible, label %loop, label %none
loop:
%i = phi i64 [ 0, %begin ], [ %following, %next ]
%place = getelementptr inbounds i64, ptr %entry, i64 %i
%time = load i64, ptr %place, align 8
%within = icmp sgt i64 %time, %after
br i1 %within, label %inside, label %none
inside:
%below = icmp sle i64 %time, %bound
br i1 %below, label %found, label %next
next:
%following = add nuw nsw i64 %i, 1
%more = icmp slt i64 %following, %n
br i1 %more, label %loop, label %none
found:
ret i64 %time
none:
ret i64 -1
}"""


@dataclass(frozen=True)
class NativePrograms:
    """Compiled programs: `address` int64[n]; `from_cache` tells whether an object file was found."""

    address: npt.NDArray[np.int64]
    from_cache: bool
    engine: Any  # owns the code


def compile_native(programs: Sequence[ir.Node], layout: Layout) -> NativePrograms:
    """Machine code for this computer's processor."""
    text = module_text(programs, layout)
    machine, processor = _machine()
    key = hashlib.sha256(f"{llvmlite.__version__} {OPTIMISATION} {processor}\n{text}".encode()).hexdigest()
    path = cache_folder().parent / "policies" / f"{key[:40]}.o"
    code = _read(path)
    from_cache = code is not None
    if code is None:
        code = _emit_object(text, machine)
        _write(path, code)
    backing = llvm.parse_assembly("")
    backing.triple = machine.triple
    # the engine takes its target machine over: the shared one must not be given away
    engine = llvm.create_mcjit_compiler(backing, _new_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = np.array([engine.get_function_address(f"p{i}") for i in range(len(programs))], dtype=np.int64)
    return NativePrograms(address, from_cache, engine)


# --- the compiler and its files -----------------------------------------------------------------------


def _new_machine() -> Any:
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=OPTIMISATION,
        codemodel="jitdefault",
        jit=True,
    )


def _address_in_libm(name: str) -> int:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


@cache
def _machine() -> tuple[Any, str]:
    """The target machine, and the processor's name and features; LLVM is started on the first call."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, symbol in _MATH_SYMBOLS.items():
        llvm.add_symbol(symbol, llvm.address_of_symbol(name) or _address_in_libm(name))
    return _new_machine(), f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def _emit_object(text: str, machine: Any) -> bytes:
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Keep an object file; a cache that can't be written is no error, only slower."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, path)
            kept = sorted(path.parent.glob("*.o"), key=lambda file: file.stat().st_mtime)
            for old in kept[:-OBJECT_FILES_MAX]:
                old.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


# --- emission -----------------------------------------------------------------------------------------


def module_text(programs: Sequence[ir.Node], layout: Layout) -> str:
    """LLVM IR of all programs; equal programs and layout give equal text."""
    none_words = max((entry_words(s.kind, layout.kept(s)) for s in layout.index if s.by), default=1)
    parts = [
        f"@none = internal constant [{none_words} x i64] zeroinitializer",
        *(
            f"declare double @{symbol}(double) nounwind willreturn memory(none)"
            for symbol in _MATH_SYMBOLS.values()
        ),
        *(f"declare i64 @llvm.vector.reduce.add.v{n}i64(<{n} x i64>)" for n in LANES if n > 1),
        "declare i64 @llvm.ctpop.i64(i64)",
        "declare double @llvm.sqrt.f64(double)",
        "declare double @llvm.fabs.f64(double)",
    ]
    kinds = {type(node) for program in programs for node in ir.walk(program)}
    if ir.Latest in kinds:
        parts.append(_LATEST)
    if ir.Decayed in kinds:
        parts.append(_decayed_helper())
    for i, program in enumerate(programs):
        parts += _Function(f"p{i}", layout).define(program)
    return "\n".join(parts)


def _decayed_helper() -> str:
    """Weighted sum of a DECAY entry at %now, not yet over its scale (ir.Decayed); 0 if it is empty."""
    lines = [
        "define internal double @decayed(ptr %entry, i64 %now, i64 %half_life) nounwind noinline {",
        "begin:",
        "%epoch = load i64, ptr %entry, align 8",
        "%none = icmp eq i64 %epoch, 0",
        "br i1 %none, label %empty, label %sums",
        "sums:",
        "%newest = sub i64 %epoch, 1",
        "%start = mul i64 %newest, %half_life",
        "%since = sub i64 %start, %now",
        "%since_ms = sitofp i64 %since to double",
        "%width_ms = sitofp i64 %half_life to double",
        "%halvings = fdiv double %since_ms, %width_ms",
        f"%share = call double @{_MATH_SYMBOLS['exp2']}(double %halvings)",
    ]
    total = _double(0.0)
    for j in range(plan.DECAY_EPOCHS):
        lines += [
            f"%place{j} = getelementptr inbounds i64, ptr %entry, i64 {j + 1}",
            f"%word{j} = load i64, ptr %place{j}, align 8",
            f"%sum{j} = sitofp i64 %word{j} to double",
            f"%weighted{j} = fmul double %sum{j}, {_double(0.5**j)}",
            f"%total{j} = fadd double {total}, %weighted{j}",
        ]
        total = f"%total{j}"
    return "\n".join(
        [
            *lines,
            f"%result = fmul double {total}, %share",
            "ret double %result",
            "empty:",
            f"ret double {_double(0.0)}",
            "}",
        ]
    )


def _double(value: float) -> str:
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


_CONDITIONS = (
    *(ir.AtLeast, ir.EventIs, ir.EventTypeIs, ir.Compare, ir.Not, ir.And, ir.Or),
    *(ir.Since, ir.InSegment, ir.InStage, ir.LookupIs),
)


def _is_condition(node: ir.Node) -> bool:
    match node:
        case ir.Choose(_, then, otherwise):
            return _is_condition(then) and _is_condition(otherwise)
        case ir.Number(value):
            return value in (0.0, 1.0) and str(value) != "-0.0"
        case _:
            return isinstance(node, _CONDITIONS)


def _cost(node: ir.Node) -> int:
    own = 1
    match node:
        case ir.Count(stream, _, up_to) | ir.Sum(stream, _, up_to, _):
            own = 2 + up_to // 4 if stream.kind in (plan.COUNT, plan.SUM, plan.DISTINCT) else 3
        case ir.Latest(others=others):
            own = 5 * (1 + len(others))
        case ir.Apply() | ir.Decayed():
            own = 20
        case ir.Arithmetic("/", _, _):
            own = 4
    keyed = getattr(node, "stream", None) is not None and node.stream.by > 0  # type: ignore[union-attr]
    return own + 2 * keyed + sum(_cost(child) for child in ir.children(node))


class _Function:
    """Lines of one function. Conditions are i1 values, numbers double; names are %v<n>, blocks b<n>."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.layout = layout
        self.tables: list[str] = []
        self.lines: list[str] = []
        self.names = 0
        self.block = "entry"

    def define(self, program: ir.Node) -> list[str]:
        result = self.number(program)
        row, event, location = (f"ptr noalias readonly %{x}" for x in ("row", "record", "location"))
        return [
            *self.tables,
            f"define double @{self.name}({row}, i64 %now, {event}, {location}) nounwind {{",
            "entry:",
            *self.lines,
            f"ret double {result}",
            "}",
        ]

    # --- values ---------------------------------------------------------------------------------------

    def number(self, node: ir.Node) -> str:
        match node:
            case ir.Number(value):
                return _double(value)
            case ir.EventNumber(plan.FIELD_QUANTITY):
                shifted = self._value(f"lshr i64 {self._record(record.PACK)}, {record.QUANTITY_SHIFT}")
                return self._as_double(self._value(f"and i64 {shifted}, {record.QUANTITY_MASK}"))
            case ir.EventNumber(field, currency, divisor):
                money = self._divided(self._as_double(self._record(field)), divisor)
                found = self._value(f"lshr i64 {self._record(record.PACK)}, 16")
                same = self._value(f"icmp eq i64 {self._value(f'and i64 {found}, 65535')}, {currency}")
                return self._select(same, money, _double(0.0))
            case ir.Count():
                return self._as_double(self._count(node))
            case ir.Sum(stream, within_ms, up_to, divisor):
                entry = self._entry(stream)
                if stream.kind == plan.SUM:
                    total = self._total(entry, up_to, self._after(within_ms), self.layout.kept(stream))
                else:
                    total = self._current(stream, entry)
                return self._divided(self._as_double(total), divisor)
            case ir.Recency(stream, within_ms):
                newest = self._load(self._entry(stream), 0)
                known = self._value(f"icmp sgt i64 {newest}, {self._after(within_ms)}")
                since = self._as_double(self._value(f"sub i64 %now, {newest}"))
                return self._select(known, since, _double(plan.RECENCY_NEVER))
            case ir.Nth() | ir.Latest():
                return self._as_double(self._time(node))
            case ir.Decayed(stream, divisor):
                entry = self._entry(stream)
                total = self._value(f"call double @decayed(ptr {entry}, i64 %now, i64 {stream.every_ms})")
                return self._divided(self._divided(total, float(ir.decay_scale(stream))), divisor)
            case ir.FirstValue(stream, divisor):
                # an absent entry is all zeros
                return self._divided(self._as_double(self._load(self._entry(stream), 1)), divisor)
            case ir.Age(stream):
                time = self._load(self._entry(stream), 0)
                known = self._value(f"icmp ne i64 {time}, 0")
                age = self._as_double(self._value(f"sub i64 %now, {time}"))
                return self._select(known, age, _double(plan.RECENCY_NEVER))
            case ir.Step():
                return self._as_double(self._record(record.SEQUENCE))
            case ir.Lookup(index):
                word = self._load("%location", self.layout.lookup_word(index))
                return self._divided(self._as_double(word), float(plan.LOOKUP_SCALE))
            case ir.Arithmetic("/", left, right):
                a, b = self.number(left), self.number(right)
                zero = self._value(f"fcmp oeq double {b}, {_double(0.0)}")
                return self._select(zero, _double(0.0), self._value(f"fdiv double {a}, {b}"))
            case ir.Arithmetic("min" | "max" as operator, left, right):
                a, b = self.number(left), self.number(right)
                closer = self._value(f"fcmp {'olt' if operator == 'min' else 'ogt'} double {b}, {a}")
                return self._select(closer, b, a)
            case ir.Arithmetic(operator, left, right):
                a, b = self.number(left), self.number(right)
                return self._value(f"{_ARITHMETIC[operator]} double {a}, {b}")
            case ir.Apply(function, ir.Count(_, _, up_to) as count) if up_to <= TABLE_MAX:
                return self._from_table(
                    [ir.Apply(function, ir.Number(float(n))) for n in range(up_to + 1)], count
                )
            case ir.Apply(function, argument):
                return self._apply(function, self.number(argument))
            case ir.Finite(operand):
                result = self.number(operand)
                size = self._value(f"call double @llvm.fabs.f64(double {result})")
                known = self._value(f"fcmp ole double {size}, {_double(1.7976931348623157e308)}")
                return self._select(known, result, _double(0.0))
            case ir.Choose(condition, then, otherwise) if not _is_condition(node):
                return self._branched(
                    "double",
                    self.condition(condition),
                    lambda: self.number(then),
                    lambda: self.number(otherwise),
                )
            case _:
                return self._value(f"uitofp i1 {self.condition(node)} to double")

    def condition(self, node: ir.Node) -> str:
        match node:
            case ir.Number(value):
                return "true" if value else "false"
            case ir.AtLeast(stream, within_ms, least) if stream.kind in (plan.COUNT, plan.DISTINCT):
                time = self._load(self._entry(stream), least - 1)
                return self._value(f"icmp sgt i64 {time}, {self._after(within_ms)}")
            case ir.AtLeast(stream, _, least):
                return self._value(f"icmp sge i64 {self._current(stream, self._entry(stream))}, {least}")
            case ir.EventIs(field, bits):
                return self._any(self._record(field), bits)
            case ir.EventTypeIs(codes):
                return self._any(self._value(f"and i64 {self._record(record.PACK)}, 255"), codes)
            case ir.Since(stream):
                newest = self._load(self._entry(stream), 0)
                return self._value(f"icmp sgt i64 {newest}, {self._record(record.TIME)}")
            case ir.InSegment(index):
                shifted = self._value(f"lshr i64 {self._load('%row', SEGMENTS)}, {index}")
                return self._value(f"trunc i64 {shifted} to i1")
            case ir.InStage(index):
                return self._value(f"icmp eq i64 {self._load('%row', STAGE)}, {index}")
            case ir.LookupIs(index, bits):
                return self._any(self._load("%location", self.layout.lookup_word(index)), bits)
            case ir.Compare(operator, left, right):
                a, b = self.number(left), self.number(right)
                return self._value(f"fcmp {_COMPARISON[operator]} double {a}, {b}")
            case ir.Not(operand):
                return self._value(f"xor i1 {self.condition(operand)}, true")
            case ir.And(left, right):
                a = self.condition(left)
                if _cost(right) <= CHEAP_MAX:
                    return self._value(f"and i1 {a}, {self.condition(right)}")
                return self._branched("i1", a, lambda: self.condition(right), lambda: "false")
            case ir.Or(left, right):
                a = self.condition(left)
                if _cost(right) <= CHEAP_MAX:
                    return self._value(f"or i1 {a}, {self.condition(right)}")
                return self._branched("i1", a, lambda: "true", lambda: self.condition(right))
            case ir.Choose(condition, then, otherwise):
                return self._branched(
                    "i1",
                    self.condition(condition),
                    lambda: self.condition(then),
                    lambda: self.condition(otherwise),
                )
            case _:
                raise TypeError(f"{type(node).__name__} is not a condition")

    # --- pieces ---------------------------------------------------------------------------------------

    def _name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def _value(self, operation: str) -> str:
        name = self._name()
        self.lines.append(f"%{name} = {operation}")
        return f"%{name}"

    def _open(self, block: str) -> None:
        self.lines.append(f"{block}:")
        self.block = block

    def _load(self, base: str, word: int | str, kind: str = "i64") -> str:
        place = self._value(f"getelementptr inbounds i64, ptr {base}, i64 {word}")
        return self._value(f"load {kind}, ptr {place}, align 8")

    def _record(self, word: int) -> str:
        return self._load("%record", word)

    def _as_double(self, value: str) -> str:
        return self._value(f"sitofp i64 {value} to double")

    def _divided(self, value: str, divisor: float) -> str:
        return value if divisor == 1.0 else self._value(f"fdiv double {value}, {_double(divisor)}")

    def _select(self, condition: str, then: str, otherwise: str) -> str:
        return self._value(f"select i1 {condition}, double {then}, double {otherwise}")

    def _time(self, node: ir.Node) -> str:
        """A Nth, a Latest or the greater of such as int64."""
        match node:
            case ir.Nth(stream, within_ms, n):
                time = self._load(self._entry(stream), n)
                within = self._value(f"icmp sgt i64 {time}, {self._after(within_ms)}")
                return self._value(f"select i1 {within}, i64 {time}, i64 -1")
            case ir.Latest(stream, within_ms, entries, bound, strict, others):
                most = self._time(bound)
                after = self._after(within_ms)
                before = ""
                if strict or any(below for _, below in others):
                    before = self._value(f"sub i64 {most}, 1")
                found = ""
                for one, below in ((stream, strict), *others):
                    arguments = f"i64 {entries}, i64 {after}, i64 {before if below else most}"
                    time = self._value(f"call i64 @latest(ptr {self._entry(one)}, {arguments})")
                    found = self._later(found, time) if found else time
                return found
            case ir.Arithmetic("max", left, right):
                return self._later(self._time(left), self._time(right))
            case _:
                raise TypeError(f"{type(node).__name__} is not a time")

    def _later(self, a: str, b: str) -> str:
        later = self._value(f"icmp sgt i64 {b}, {a}")
        return self._value(f"select i1 {later}, i64 {b}, i64 {a}")

    def _after(self, within_ms: int) -> str:
        """Times after this lie in the window; no time is 0."""
        if within_ms < 0:
            return self._load("%location", self.layout.moment_word(within_ms))
        return self._value(f"sub i64 %now, {within_ms}") if within_ms else "0"

    def _count(self, count: ir.Count) -> str:
        entry = self._entry(count.stream)
        if count.stream.kind in (plan.COUNT, plan.DISTINCT):
            return self._total(entry, count.up_to, self._after(count.within_ms), None)
        n = self._current(count.stream, entry)
        less = self._value(f"icmp slt i64 {n}, {count.up_to}")
        return self._value(f"select i1 {less}, i64 {n}, i64 {count.up_to}")

    def _from_table(self, entries: Sequence[ir.Node], count: ir.Count) -> str:
        """The entry a count chooses, each computed here and now by the interpreter."""
        values = ", ".join(f"double {_double(interpret_constant(entry))}" for entry in entries)
        kind = f"[{len(entries)} x double]"
        table = f"@{self.name}.{self._name()}"
        self.tables.append(f"{table} = internal constant {kind} [{values}]")
        place = self._value(f"getelementptr inbounds {kind}, ptr {table}, i64 0, i64 {self._count(count)}")
        return self._value(f"load double, ptr {place}, align 8")

    def _entry(self, stream: ir.Stream) -> str:
        """Where the stream's entry is; an absent one is read as zeros."""
        if not stream.by:
            return self._value(f"getelementptr inbounds i64, ptr %row, i64 {self.layout.offset(stream)}")
        word = self._load("%location", self.layout.index[stream])
        place = self._value(f"getelementptr i64, ptr %row, i64 {word}")
        known = self._value(f"icmp sge i64 {word}, 0")
        return self._value(f"select i1 {known}, ptr {place}, ptr @none")

    def _current(self, stream: ir.Stream, entry: str) -> str:
        """The second word of a tumbling entry if its window is that of now, else 0."""
        since = self._value(f"urem i64 %now, {stream.every_ms}")
        start = self._value(f"sub i64 %now, {since}")
        same = self._value(f"icmp eq i64 {self._load(entry, 0)}, {start}")
        return self._value(f"select i1 {same}, i64 {self._load(entry, 1)}, i64 0")

    def _total(self, entry: str, n: int, after: str, values: int | None) -> str:
        """How many of the n newest times are after `after`, or the sum of their values `values` words on."""
        if n <= UNROLLED_MAX:
            return self._total_of_lanes(entry, n, after, values)
        before, loop, done = self.block, f"b{self._name()}", f"b{self._name()}"
        i, following, total, sum_so_far = (f"%{self._name()}" for _ in range(4))
        self.lines.append(f"br label %{loop}")
        self._open(loop)
        self.lines.append(f"{i} = phi i64 [ 0, %{before} ], [ {following}, %{loop} ]")
        self.lines.append(f"{total} = phi i64 [ 0, %{before} ], [ {sum_so_far}, %{loop} ]")
        self.lines.append(f"{sum_so_far} = add i64 {total}, {self._term(entry, i, after, values)}")
        self.lines.append(f"{following} = add nuw nsw i64 {i}, 1")
        self.lines.append(
            f"br i1 {self._value(f'icmp eq i64 {following}, {n}')}, label %{done}, label %{loop}"
        )
        self._open(done)
        return sum_so_far

    def _total_of_lanes(self, entry: str, n: int, after: str, values: int | None) -> str:
        total, word = "0", 0
        while word < n:
            lanes = next(lanes for lanes in LANES if lanes <= n - word)
            if lanes == 1:
                term = self._term(entry, str(word), after, values)
            else:
                term = self._lanes(entry, word, lanes, after, values)
            total = self._value(f"add i64 {total}, {term}")
            word += lanes
        return total

    def _lanes(self, entry: str, word: int, lanes: int, after: str, values: int | None) -> str:
        """What `lanes` neighbouring entries add."""
        kind = f"<{lanes} x i64>"
        first = self._value(f"insertelement {kind} poison, i64 {after}, i64 0")
        spread = self._value(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")
        within = self._value(f"icmp sgt {kind} {self._load(entry, word, kind)}, {spread}")
        if values is None:
            bits = self._value(f"bitcast <{lanes} x i1> {within} to i{lanes}")
            wide = self._value(f"zext i{lanes} {bits} to i64")
            return self._value(f"call i64 @llvm.ctpop.i64(i64 {wide})")
        added = self._load(entry, word + values, kind)
        kept = self._value(f"select <{lanes} x i1> {within}, {kind} {added}, {kind} zeroinitializer")
        return self._value(f"call i64 @llvm.vector.reduce.add.v{lanes}i64({kind} {kept})")

    def _term(self, entry: str, i: str, after: str, values: int | None) -> str:
        within = self._value(f"icmp sgt i64 {self._load(entry, i)}, {after}")
        if values is None:
            return self._value(f"zext i1 {within} to i64")
        value = self._load(entry, self._value(f"add i64 {i}, {values}"))
        return self._value(f"select i1 {within}, i64 {value}, i64 0")

    def _any(self, value: str, wanted: Sequence[int]) -> str:
        found = "false"
        for bits in wanted:
            found = self._value(f"or i1 {found}, {self._value(f'icmp eq i64 {value}, {bits}')}")
        return found

    def _apply(self, function: ir.FunctionName, x: str) -> str:
        if function == "abs":
            return self._value(f"call double @llvm.fabs.f64(double {x})")
        if function == "exp":
            limit, least = _double(ir.EXP_ARGUMENT_MAX), _double(-ir.EXP_ARGUMENT_MAX)
            low = self._select(self._value(f"fcmp ogt double {x}, {least}"), x, least)
            x = self._select(self._value(f"fcmp ogt double {x}, {limit}"), limit, low)
            return self._value(f"call double @{_MATH_SYMBOLS['exp']}(double {x})")
        positive = self._value(f"fcmp ogt double {x}, {_double(0.0)}")
        x = self._select(positive, x, _double(0.0))
        name = "llvm.sqrt.f64" if function == "sqrt" else _MATH_SYMBOLS["log1p"]
        return self._value(f"call double @{name}(double {x})")

    def _branched(
        self, kind: str, condition: str, then: Callable[[], str], otherwise: Callable[[], str]
    ) -> str:
        """The value of one side; the other is not evaluated."""
        first, second, join = (f"b{self._name()}" for _ in range(3))
        self.lines.append(f"br i1 {condition}, label %{first}, label %{second}")
        ends = []
        for block, side in ((first, then), (second, otherwise)):
            self._open(block)
            value = side()
            ends.append(f"[ {value}, %{self.block} ]")
            self.lines.append(f"br label %{join}")
        self._open(join)
        return self._value(f"phi {kind} {', '.join(ends)}")
