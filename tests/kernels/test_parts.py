"""Several parts in one call: what they say is what each says alone, and refers to copies of its records."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue_kernels import record
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_LOG,
    ACTION_RECORD,
    CHANGE_RECORD,
    LOG_FIRED,
    LOG_REASONS,
    LOG_RECORD,
    LOG_SAMPLE,
    SPAN_ACTIONS_END,
    SPAN_CHANGES_END,
    SPAN_LOG_END,
    SPAN_PART,
    SPAN_SEQUENCE,
)
from tests.kernels import naive_timers as naive
from tests.kernels.drivers import START_MS, engine_settings, quick, records_of, released
from tests.kernels.test_fire import MADE, NAMES, SECRET, STEPS, events_of, rows_of

PARTS = 3
Said = dict[int, list[Any]]


def engines(bench: Bench | None) -> list[ShardEngine]:
    """Parts with a bench for all of them, or one each."""
    given_ = engine_settings(
        retention_ms=naive.RETENTION_MS,
        quarantine_ms=naive.QUARANTINE_MS,
        rate_per_minute_max=naive.RATE_MAX,
        lateness_ms=naive.LATENESS_MS,
        secret=SECRET,
    )
    world = ShardEngine(MADE, given_).world
    return [ShardEngine(MADE, given_, world, part=part, bench=bench) for part in range(PARTS)]


def shown(decisions: Decisions, at: int) -> tuple[Any, ...]:
    """A record and its strings, wherever they lie."""
    words = decisions.records[at].tolist()
    heap = words.pop(record.HEAP)
    length = sum(heap >> (8 * string) & 0xFF for string in range(record.STRINGS))
    return (*words, heap & 0xFFFFFFFF, decisions.text[heap >> 32 : (heap >> 32) + length].tobytes())


def said(decided: list[Decisions]) -> Said:
    """Log rows with their actions, and changes, by part, in order, and with the records they refer to."""
    found: Said = {part: [] for part in range(PARTS)}
    for one in decided:
        actions = {int(action[ACTION_LOG]): action for action in one.actions}
        log = change = action_end = 0
        for span in one.spans.tolist():
            told = found[span[SPAN_PART]]
            for row in range(log, span[SPAN_LOG_END]):
                words = one.log[row].copy()
                head = shown(one, int(words[LOG_RECORD]))
                words[[LOG_RECORD, LOG_REASONS, LOG_FIRED, LOG_SAMPLE]] = 0
                told.append((words.tolist(), head))
                if row in actions:
                    words = actions[row].copy()
                    told.append((shown(one, int(words[ACTION_RECORD])), shown(one, int(words[ACTION_ITEM]))))
                    words[[ACTION_LOG, ACTION_RECORD, ACTION_ITEM]] = 0
                    told.append(words.tolist())
            for row in range(change, span[SPAN_CHANGES_END]):
                words = one.changes[row].copy()
                told.append((shown(one, int(words[CHANGE_RECORD])), words[CHANGE_RECORD + 1 :].tolist()))
            assert action_end <= span[SPAN_ACTIONS_END]
            log, change, action_end = span[SPAN_LOG_END], span[SPAN_CHANGES_END], span[SPAN_ACTIONS_END]
        assert (log, change, action_end) == (len(one.log), len(one.changes), len(one.actions))
    return found


def records_in(decided: list[Decisions]) -> int:
    return sum(len(one.records) for one in decided)


@quick(120)
@given(st.lists(STEPS, min_size=PARTS, max_size=PARTS), st.booleans(), st.integers(1, 9), st.data())
def test_parts_say_together_what_they_say_alone(
    steps: list[list[Any]], tight: bool, size: int, data: st.DataObject
) -> None:
    bench = Bench(MADE)  # type: ignore[arg-type]
    together, alone = engines(bench), engines(None)
    if tight:
        bench.scratch.room[:] = 1
    streams = [events_of(one) for one in steps]
    one_call: Said = {part: [] for part in range(PARTS)}
    each: Said = {part: [] for part in range(PARTS)}
    for start in range(0, max(map(len, streams)), size):
        turns: list[Turn] = []
        finished: list[bool] = []
        for part in data.draw(st.permutations(range(PARTS))):
            events = streams[part][start : start + size]
            clock = events[-1][1].clock if events else START_MS
            rows = [released(*records_of(rows_of(events), NAMES)) for _ in range(2)]
            turn = together[part].turn(rows[0]) if events else Turn(together[part])
            share = data.draw(st.integers(1, 5))
            turns.append(together[part].fires(turn, clock - naive.LATENESS_MS, share))
            decided = alone[part].process(rows[1]) if events else []
            fired, done = alone[part].advance(clock - naive.LATENESS_MS, share)
            each[part] += said([*decided, *fired])[part]
            finished.append(done)
        decided = bench.process(turns)
        assert [turn.done for turn in turns] == finished
        for part, told in said(decided).items():
            one_call[part] += told
        rows_said = sum(len(one.log) + 2 * len(one.actions) + len(one.changes) for one in decided)
        assert records_in(decided) <= rows_said  # copies of what is referred to, no more
    sequences = [engine.sequence for engine in together]
    assert {part: sorted(map(repr, told)) for part, told in one_call.items()} == {
        part: sorted(map(repr, told)) for part, told in each.items()
    }
    assert all((number > 0) == (len(each[part]) > 0) for part, number in enumerate(sequences))


def test_a_span_says_whose_rows_they_are_and_which_run_it_was() -> None:
    bench = Bench(MADE)  # type: ignore[arg-type]
    parts = engines(bench)
    seen: dict[int, list[int]] = {}
    for run in range(1, 5):
        event = {"customer": 0, "type": 1, "time": START_MS + run, "clock": START_MS + run, "message": run}
        turns = [part.turn(released(*records_of([event], NAMES))) for part in parts]
        for one in bench.process(turns):
            for number, sequence in one.spans[:, [SPAN_PART, SPAN_SEQUENCE]].tolist():
                assert parts[number].sequence == sequence
                seen.setdefault(number, []).append(sequence)
    assert seen == {number: list(range(1, len(seen[0]) + 1)) for number in range(PARTS)}
    assert len({part.row for part in parts}) == PARTS
