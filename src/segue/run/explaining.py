"""`segue explain`: an explanation for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from segue.events.time import time_text
from segue.explain.moment import Explanation
from segue.explain.rows import Candidate, Decision
from segue.explain.words import REASONS, Policies, condition, taken_back, why

NUMBERS = (
    "propensity",
    "context",
    "value",
    "lever",
    "score",
)  # of a candidate: the last is the product of the others
SENT_SHOWN = 10  # of a customer's actions, the newest
REFUSED_SHOWN = 15


def show(explanation: Explanation, policies: Policies, console: Console) -> None:
    """Why this, why not the others; of a customer also what was sent before, and what was not."""
    if not explanation.moment:
        _show_nothing(explanation, console)
        return
    first = explanation.moment[0]
    cause = f"event {first.causation_id}" if first.causation_id else "time alone"
    console.print(
        f"[bold]{explanation.customer_id}[/bold] at {time_text(first.time_ms)}, because of {cause}",
        soft_wrap=True,
    )
    for candidate in {each.journey: each for one in explanation.moment for each in one.candidates}.values():
        when = condition(candidate, policies)
        scored = f", scored by {candidate.model}" if candidate.model else ""
        text = f"journey {candidate.journey} of {candidate.policy}{scored}" + (
            f" holds: {when}" if when else ""
        )
        console.print(text, soft_wrap=True, style="dim", markup=False)
    for decision in explanation.moment:
        console.print()
        _show_decision(decision, explanation, policies, console)
    if any(_lacks_numbers(each) for one in explanation.moment for each in one.candidates):
        console.print(
            "\nthe numbers of all candidates are logged for a sample of the decisions (1 in 100): segue run"
            " --log complete logs those of all, --log sampled=0.1 of 1 in 10",
            soft_wrap=True,
            highlight=False,
        )
    if explanation.asked == explanation.customer_id:
        _show_history(explanation, console)


def _lacks_numbers(candidate: Candidate) -> bool:
    return candidate.score is None and candidate.reason in ("outscored", "other_slot", "below_minimum")


def _show_decision(
    decision: Decision, explanation: Explanation, policies: Policies, console: Console
) -> None:
    slot = f"{decision.channel}/{decision.placement}"
    action = explanation.actions.get(decision.decision_id)
    console.print(
        f"[bold]{slot}[/bold]: {decision.winner or 'nothing'}"
        + (f", action {action['action_id']}" if action else f", decision {decision.decision_id}"),
        soft_wrap=True,
    )
    if action is not None:
        console.print(f"  {_product(action)}", soft_wrap=True)
        if action["action_id"] in explanation.withdrawn:
            console.print(f"  {taken_back(explanation.withdrawn[action['action_id']])}", soft_wrap=True)
    numbers = [Column(name, justify="right") for name in NUMBERS]
    table = Table("", "offer", *numbers, "", box=None)
    order = sorted(decision.candidates, key=lambda each: (each.reason != "won", -(each.score or 0.0)))
    for candidate in order:
        table.add_row(
            "→" if candidate.reason == "won" else " ",
            candidate.offer,
            *_numbers(candidate, action),
            why(decision, candidate, explanation.moment, policies),
        )
    console.print(table)


def _numbers(candidate: Candidate, action: dict[str, Any] | None) -> list[str]:
    """NUMBERS of a candidate, of the winner from its action; empty where they are not logged."""
    if candidate.score is None and candidate.reason == "won" and action is not None:
        names = ("propensity", "context_weight", "value", "lever", "score")
        numbers = [action[name] for name in names]
    else:
        numbers = [getattr(candidate, name) for name in NUMBERS]
    return ["" if number is None else f"{number:.4g}" for number in numbers]


def _product(action: dict[str, Any]) -> str:
    return (
        f"score {action['score']:.4f} = propensity {action['propensity']:.4f} x context {action['context_weight']:g} "
        f"x value {action['value']:g} x lever {action['lever']:g}"
        + (f" (model {action['model_version']})" if action["model_version"] else "")
    )


def _show_history(explanation: Explanation, console: Console) -> None:
    sent = explanation.sent
    console.print(
        f"\n{explanation.decided:,} decisions, {len(sent):,} actions so far, in {explanation.where}"
    )
    table = Table("time", "channel", "offer", Column("action", no_wrap=True), "", box=None)
    for action in sent[-SENT_SHOWN:]:
        withdrawn = explanation.withdrawn.get(action["action_id"])
        note = "" if withdrawn is None else f"taken back: {withdrawn['reason']}"
        table.add_row(action["time"], action["channel"], action["offer"], action["action_id"], note)
    if sent:
        console.print(table)
    if len(sent) > SENT_SHOWN:
        console.print(f"and {len(sent) - SENT_SHOWN:,} before these (--json has all)")
    if explanation.refused:
        console.print("\nwhat did not go out, and how often")
        table = Table(Column("times", justify="right"), "channel", "offer", "why", box=None)
        for refused in explanation.refused[:REFUSED_SHOWN]:
            table.add_row(
                f"{refused.times:,}",
                refused.channel,
                refused.offer,
                REASONS.get(refused.reason, refused.reason),
            )
        console.print(table)
    if len(explanation.refused) > REFUSED_SHOWN:
        console.print(f"and {len(explanation.refused) - REFUSED_SHOWN:,} more (--json has all)")
    _show_not_used(explanation, console)


def _show_nothing(explanation: Explanation, console: Console) -> None:
    console.print(
        f"nothing was decided for {explanation.customer_id} in {explanation.where}, "
        f"which has {explanation.of_others:,} decisions of others",
        soft_wrap=True,
    )
    console.print(
        "either none of their events came (is the identifier spelled as in the events?), or no journey's condition "
        "held: what does not even compete is in no log. `segue test` plays a policy on events of your own.",
        soft_wrap=True,
    )
    _show_not_used(explanation, console)


def _show_not_used(explanation: Explanation, console: Console) -> None:
    for name, count in explanation.not_used.items():
        if count:
            what = "came too late" if name == "late" else "could not be used"
            console.print(f"{count:,} events that name them {what}: see {name}", soft_wrap=True)
