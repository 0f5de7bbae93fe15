"""An example drawn on a time axis in plain ASCII: events, what was expected, what happened, and why others lost.

 0m  --o  Product Added, p1
30m  --x  expected: journey cart-abandonment, step 1
       |    cart-abandonment: cart-email (email) lost: no_consent
 2h  --+  end
"""

from __future__ import annotations

from typing import Any

from segue.policy.examples import Event, Example, ExpectedChange, ExpectedWithdrawn, offset_ms, offset_text
from segue.testing.judge import Verdict, described
from segue.testing.play import Played

EVENT, AS_EXPECTED, MISSING, UNEXPECTED, NOTE, END = "o", "*", "x", "!", ".", "+"
LEGEND = "o event   * as expected   x missing   ! not expected   . change of segment or stage"


def timeline(example: Example, played: Played, verdict: Verdict) -> list[str]:
    """The lines of the drawing, top to bottom in time."""
    # time, rank at equal times, mark, text
    rows: list[tuple[int, int, str, list[str]]] = []
    latest_ms = 0
    for event in example.events:
        time_ms = offset_ms(event.at)
        late = f"  (comes late: after {offset_text(latest_ms)})" if time_ms < latest_ms else ""
        rows.append((time_ms, 0, EVENT, [_event(event) + late]))
        latest_ms = max(latest_ms, time_ms)
    for change, row in verdict.changed or [(None, row) for row in played.changes]:
        mark, text = _change(change, row, judged=example.expect_changes is not None)
        rows.append((_time(change, row), 1, mark, [text]))
    for expected, action in verdict.happened:
        if action is None:
            assert expected is not None
            rows.append((offset_ms(expected.at), 2, MISSING, [f"expected: {described(expected)}"]))
        elif expected is None:
            rows.append((action["at_ms"], 2, UNEXPECTED, [f"not expected: {_action(action)}"]))
        else:
            rows.append((action["at_ms"], 2, AS_EXPECTED, [_action(action)]))
    for withdrawn, row in verdict.taken_back or [(None, row) for row in played.withdrawn]:
        mark, text = _taken_back(withdrawn, row, judged=example.expect_withdrawn is not None)
        rows.append((_time(withdrawn, row), 2, mark, [text]))
    for time_ms, lost in _losers(played).items():
        rows.append((time_ms, 3, NOTE, lost))
    rows.append((example.end_ms, 4, END, ["end"]))
    rows.sort(key=lambda row: row[:2])
    times = [offset_text(time_ms) for time_ms, *_ in rows]
    width = max(len(text) for text in times)
    lines: list[str] = []
    before = ""
    for time, (_, rank, mark, texts) in zip(times, rows, strict=True):
        for i, text in enumerate(texts):
            shown = time if time != before and i == 0 else ""
            arm = "--" if i == 0 and rank != 3 else "  "
            sign = mark if i == 0 and rank != 3 else "|"
            lines.append(f"  {shown:>{width}}  {arm}{sign}  {text}")
        before = time
    return lines


def _time(change: ExpectedChange | ExpectedWithdrawn | None, row: dict[str, Any] | None) -> int:
    if row is not None:
        time_ms: int = row["at_ms"]
        return time_ms
    assert change is not None
    return offset_ms(change.at)


def _event(event: Event) -> str:
    who = [text for text in (event.user, event.loyalty, event.anonymous) if text]
    about = [event.product, event.category, event.store, event.coupon, event.promotion, event.channel]
    money = event.amount if event.amount is not None else event.price
    parts = [event.event, *(text for text in about if text)]
    if money is not None:
        parts.append(f"{money:g}")
    parts += [line.product or line.category or "line" for line in event.lines]
    return ", ".join(parts) + (f"  ({', '.join(who)})" if who else "")


def _action(action: dict[str, Any]) -> str:
    parts = [f"{action['journey']} step {action['step']}: {action['offer']} ({action['channel']})"]
    parts += [text for text in (action["product_id"], action["category"]) if text]
    if action["items"]:
        parts.append(f"items {' '.join(action['items'])}")
    return ", ".join(parts)


def _change(change: ExpectedChange | None, row: dict[str, Any] | None, *, judged: bool) -> tuple[str, str]:
    if row is None:
        assert change is not None
        return MISSING, f"expected: {change.change or 'change'} {change.name or ''}".rstrip()
    text = f"{row['change']} {row['name']}"
    if not judged:
        return NOTE, text
    return (UNEXPECTED, f"not expected: {text}") if change is None else (AS_EXPECTED, text)


def _taken_back(
    withdrawn: ExpectedWithdrawn | None, row: dict[str, Any] | None, *, judged: bool
) -> tuple[str, str]:
    if row is None:
        assert withdrawn is not None
        return MISSING, f"expected: {described(withdrawn)} taken back"
    text = (
        f"{row['journey']} step {row['step']}: {row['offer']} ({row['channel']}) taken back: {row['reason']}"
    )
    if not judged:
        return NOTE, text
    return (UNEXPECTED, f"not expected: {text}") if withdrawn is None else (AS_EXPECTED, text)


def _losers(played: Played) -> dict[int, list[str]]:
    """Lines about the candidates that lost, by time."""
    lines: dict[int, list[str]] = {}
    for time_ms, candidates in played.decisions:
        for each in candidates:
            if each.reason != "won":
                scored = f", score {each.score:.3g}" if each.score else ""
                text = f"  {each.journey}: {each.offer} ({each.channel}) lost: {each.reason}{scored}"
                lines.setdefault(time_ms, []).append(text)
    return lines
