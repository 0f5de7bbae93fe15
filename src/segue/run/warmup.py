"""Every kernel compiled once, on a few simulated events, so that a run never stops to compile.

What is compiled is kept on disk (segue_kernels.jit.cache_folder); a mark beside it says that it is complete. What other
versions left there and nobody uses any more is deleted at the end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from segue.actions.encode import ActionEncoder
from segue.checkpoints.bases import load, write_base
from segue.checkpoints.manifest import Manifest
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.events.decode import Decoder, Origin
from segue.events.money import letters_code
from segue.events.names import CODE_BY_NAME, ERASURE
from segue.events.updates import TopicRows
from segue.identity.anonymous import AnonymousShard
from segue.limits import TIMERS_PER_READ
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue.reference.world import ReferenceWorld
from segue.routing.arrivals import Arrivals, Released
from segue.routing.packet import Packet, packets
from segue.run.ahead import compiling_ahead
from segue.run.unused import MARK, delete_unused
from segue.settings import Settings, secret
from segue.simulate import SimulationSettings, write_simulation
from segue.sinks.kafka.encode import LaneEncoder
from segue.sources.files import file_source
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch
from segue.state.delta import ShardDelta, merge_deltas
from segue.state.layout import Change
from segue.vouchers.campaign import Campaign, compile_campaign
from segue.vouchers.keys import load_keys
from segue.vouchers.ledger import VoucherLedger
from segue_kernels.erase import hear_erasure
from segue_kernels.jit import JIT_DISABLED, cache_folder
from segue_kernels.ledger import A_ROW, CHANGE_WORDS, G_CURRENCY, G_NOW, GRANT_WORDS
from segue_kernels.messages import FORM_AUTO, OUT_WORDS, SCRATCH_WORDS, message_bytes, take_messages
from segue_kernels.plan import LOOKUP_FIELD, LOOKUP_TABLE, LOOKUP_WORDS, TABLE_PRICE, TABLE_PROFILE
from segue_kernels.receipt import (
    RECEIPT_FLAGS,
    RECEIPT_IS_LOGGED,
    RECEIPT_PART,
    RECEIPT_SEQUENCE,
    RECEIPT_WORDS,
)
from segue_kernels.record import CLOCK, CUSTOMER_LO, PACK, RECORD_WORDS, TIME
from segue_kernels.stamp import latest_time
from segue_kernels.tables import VERSION_FIELDS

Step = Callable[[str], AbstractContextManager[None]]

_LEDGER_MARK = "ledger"  # beside the other
_EVENTS = 2_000
_SHARDS = 1
_BATCH_ROWS = 500


def _mark(name: str = MARK) -> Path:
    return Path(os.environ.get("NUMBA_CACHE_DIR", cache_folder())) / name


def is_warm() -> bool:
    """Whether all kernels of these sources were compiled before (or are not compiled at all), but for the ledger's."""
    return JIT_DISABLED or _mark().exists()


def is_ledger_warm() -> bool:
    """The same of the kernels of the ledger of vouchers."""
    return JIT_DISABLED or _mark(_LEDGER_MARK).exists()


def warm_up_ledger(step: Step) -> None:
    """Compile the kernels of the ledger of vouchers, or load them if they were compiled before."""
    with step("compile: vouchers"):
        declared = Campaign(
            name="warm",
            currency="EUR",
            start="2026-01-01T00:00:00Z",
            end="2027-01-01T00:00:00Z",
            discount_minor=1,
        )
        ledger = VoucherLedger.rebuild(
            [compile_campaign(declared, hash)], load_keys(secret()), np.zeros((0, CHANGE_WORDS), np.int64)
        )
        request = np.zeros((1, GRANT_WORDS), np.int64)
        request[0, [G_NOW, G_CURRENCY]] = 1_772_323_200_000, letters_code(declared.currency)
        _, answered = ledger.issue_best(request, np.array([0, 1]))
        ledger.texts(answered.answers[:, A_ROW])
    _note(_LEDGER_MARK)


def _note(name: str = MARK) -> None:
    if not JIT_DISABLED:
        with contextlib.suppress(OSError):  # a cache that can't be written: compiled again next time
            _mark(name).parent.mkdir(parents=True, exist_ok=True)
            _mark(name).touch()


def warm_up(step: Step, note: Callable[[str], None] = lambda _: None) -> None:
    """Compile all kernels, or load them if they were compiled before; delete what other versions left. `step` is told
    what comes next, `note` what was deleted.

    Takes most of a minute the first time, a second later.
    """
    with compiling_ahead(nothing=is_warm()) as wait, tempfile.TemporaryDirectory(prefix="segue-") as folder:
        path = Path(folder) / "events.jsonl"
        with step("compile 1/5: shoppers"):
            _write(path)
        with step("compile 2/5: reading"):
            read = [*_read(path), *_read(path.with_suffix(".parquet"))]
            _take_messages()
        settings = Settings(shards=_SHARDS)
        with step("compile 3/5: policies"):
            policies = load_policies((), secret=secret())
            _look_up(Path(folder))
        encoder = ActionEncoder(policies)
        decided: list[Decisions] = []
        with step("compile 4/5: deciding (takes longest)"):
            wait()
            routed = [item for batch in read for item in _packets(batch)]
            shard = AnonymousShard(0, policies, settings.engine(), partitions=2)
            passed: list[Packet] = []
            for destination, packet in routed:
                if destination >= _SHARDS:
                    shard.arrivals.push(packet)
                    decisions, further = shard.process()
                    due, _ = shard.advance(TIMERS_PER_READ)
                    decided += decisions + due
                    passed += [packet for _, packet in further]
            _take_up(shard)
        with step("compile 5/5: joining histories, writing actions"):
            known = [packet for destination, packet in routed if destination < _SHARDS] + passed
            # what comes from another process lies in other memory, which may be read-only
            decided += _decide(pickle.loads(pickle.dumps(known)), policies, settings)
            decided += _decide(known, policies, settings)
            encoder.encode(decided)
            LaneEncoder(policies, settings.kafka).encode(decided)
            _save(shard, policies, settings)
            _save_and_load(Path(folder))
    _note()
    if not JIT_DISABLED and "NUMBA_CACHE_DIR" not in os.environ:
        deleted = delete_unused(cache_folder())
        if deleted.versions:
            note(str(deleted))


def _take_up(shard: AnonymousShard) -> None:
    """What comes rarely, but then at once: what was sent before a crash, an erasure, tables that grow."""
    receipts = np.zeros((1, RECEIPT_WORDS), np.int64)
    receipts[0, [RECEIPT_PART, RECEIPT_SEQUENCE]] = shard.engine.part, shard.engine.sequence + 1
    receipts[0, RECEIPT_FLAGS] = RECEIPT_IS_LOGGED
    shard.engine.charge(receipts)
    shard.engine.restore_pending(shard.engine.pending_words())
    shard.advance(TIMERS_PER_READ)
    erasure, text = np.zeros((1, RECORD_WORDS), np.int64), np.zeros(0, np.uint8)
    hear_erasure(shard.engine.state.arrays, erasure, 0, text, shard.engine.state.words)
    erasure[0, [PACK, CUSTOMER_LO, TIME, CLOCK]] = ERASURE, 1, 1, 1
    shard.engine.process(Released(erasure, text))
    for _ in range(2):  # the second time moves what the first left in the old tables
        shard.engine.state.grow_index()
        shard.engine.state.grow_spill()


def _decide(known: list[Packet], policies: CompiledPolicies, settings: Settings) -> list[Decisions]:
    engine = ShardEngine(policies, settings.engine())
    arrivals = Arrivals(2, settings.lateness_ms)
    decided: list[Decisions] = []
    for packet in known:
        arrivals.push(packet)
        released = arrivals.release()
        if released is not None and len(released.records):
            decided += engine.process(released)
        due, _ = engine.advance(arrivals.watermark_ms(), TIMERS_PER_READ)
        decided += due
    return decided


def _save(shard: AnonymousShard, policies: CompiledPolicies, settings: Settings) -> None:
    """The shard's state out of memory and into that of another, under its own and another layout."""
    delta = merge_deltas([shard.save(), shard.save()])
    AnonymousShard(0, policies, settings.engine(), partitions=2).restore(delta)
    state = shard.engine.state
    change = Change(state.layout, state.layout)
    change.rows(delta)
    change.history(state.history(0))


def _save_and_load(folder: Path) -> None:
    (folder / "bases").mkdir()
    part = ShardDelta(np.array([1]), np.array([0, 1]), np.array([1]), b"")
    name, size = write_base(folder, 1, 1, 0, part)
    load(folder, Manifest(0, name, size))


def _write(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    with open(path, "wb") as file:
        write_simulation(SimulationSettings(customers=50, events=_EVENTS), file)
        file.write(b'{"id":"\\u0041","type":"Product Viewed","time":"2026-03-02T08:00:00Z","userId":"a"}\n')
        file.write(b"no event\n")
    rows = [
        {
            "id": "1",
            "type": "Product Viewed",
            "time": "2026-03-02T08:00:00Z",
            "userId": "a",
            "product_id": "p",
        },
        {"id": "2", "type": "identify", "time": "2026-03-02T08:00:01Z", "userId": "a", "anonymousId": "b"},
    ]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))


def _read(path: Path) -> list[ReadBatch]:
    settings = Settings()
    source = file_source([str(path)])
    decoder = Decoder(secret(), settings.currency, 4_102_444_800_000, settings.lateness_ms)
    index = 0 if path.suffix == ".jsonl" else 1
    reader = BatchReader(source.open(str(path)), index, decoder, Pace.create(2, _SHARDS), _BATCH_ROWS)
    batches = []
    while not reader.ended:
        batches.append(reader.read())
    reader.close()
    return batches


def _look_up(folder: Path) -> None:
    """Tables read from files, rows and a price that come along the way, out of memory and back; room for names."""
    rows = {"price": "product_id,amount\na,1\n", "profile": "customer,tier\na,x\n"}
    for name, text in rows.items():
        (folder / f"{name}.csv").write_text(text)
    lookups = np.zeros((2, LOOKUP_WORDS), np.int64)
    lookups[:, LOOKUP_TABLE] = TABLE_PRICE, TABLE_PROFILE
    lookups[:, LOOKUP_FIELD] = VERSION_FIELDS
    fields = (("price", "amount", "number"), ("profile", "tier", "text"))
    files = {name: str(folder / f"{name}.csv") for name in rows}
    world = ReferenceWorld("UTC", lookups, fields, files)
    world.keep_updates()
    records = np.zeros((100, RECORD_WORDS), np.int64)
    records[:, PACK] = CODE_BY_NAME["Price Updated"]
    world.need_zones(records)
    world.take(records)
    decoder = Decoder(secret(), Settings().currency, 4_102_444_800_000, 0, fields)
    told = TopicRows(TABLE_PROFILE, [b'{"userId":"a","tier":"x"}'], [None], [1])
    world.take(decoder.topic_rows(told, Origin("rows")).records)
    records[:, [PACK, CUSTOMER_LO]] = ERASURE, 1
    world.take(records)
    ReferenceWorld("UTC", lookups, fields, files).restore(world.save())
    world.make_name_room(1)


def _take_messages() -> None:
    """What a topic is read with, of no message, and a live input of no event."""
    latest_time(np.zeros((0, RECORD_WORDS), np.int64), 0)
    messages, scratch = np.zeros(1, np.int64), np.zeros(SCRATCH_WORDS, np.int64)
    out, buffer = np.zeros(OUT_WORDS, np.int64), np.zeros(64, np.uint8)
    message_bytes(messages, 0, 0)
    none, bounds, calls = np.zeros(0, np.int64), np.zeros(4, np.int64), np.zeros(3, np.int64)
    take_messages(
        messages, 0, 0, FORM_AUTO, bounds, buffer, none, none, calls, scratch, scratch.ctypes.data, out
    )


def _packets(batch: ReadBatch) -> list[tuple[int, Packet]]:
    found: list[tuple[int, Packet]] = []
    for decoded in batch.batches:
        addressed, _ = packets(decoded, _SHARDS, 2)
        found += addressed
    return found
