"""Files of policies → `CompiledPolicies`: read, gather the names, check, compile, and fill the tables.

Law: equal files give equal tables whatever the order of the paths; a file that loads cannot fail later. With
no paths the shipped policies are loaded.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from pathlib import Path

import numpy as np

from segue.errors import PolicyError, did_you_mean
from segue.events.hashing import hash_text, key_words
from segue.events.money import EXPONENTS, code_letters, letters_code
from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES
from segue.limits import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    OFFERS_MAX,
    SESSION_GAP_MS_MAX,
    SESSION_GAP_MS_MIN,
    WAIT_MS_MAX,
)
from segue.policy import ir, model
from segue.policy.campaigns import promised_by, terms_of
from segue.policy.compiled import CompiledPolicies, PolicyInfo, VoucherInfo
from segue.policy.discount import compile_discount, money_minor
from segue.policy.expression import compile_condition, compile_number
from segue.policy.fill import fill_tables
from segue.policy.gather import Source, gather, known, left_side, left_stream, read_sources
from segue.policy.model import STEP
from segue.policy.model_files import with_model_file
from segue.policy.native import NativePrograms, compile_native
from segue.policy.plan import Layout
from segue.policy.rows import (
    DAY_MINUTES,
    CampaignRow,
    CapRow,
    ItemsRow,
    JoinRow,
    JourneyRow,
    OfferRow,
    QuietRow,
    Rows,
    StageRow,
)
from segue.policy.scope import BY, CALENDAR, Scope
from segue_kernels import plan

SHIPPED = Path(__file__).parent / "shipped"
CHANNELS_WITHOUT_CONSENT = ("web", "till")  # the customer is there: nothing is sent
ALWAYS = ir.Number(1.0)
LAYERS = ("applicable", "suitable")  # conditions of an offer, and of a journey for all its offers
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
THEN = ("hold", "drop")
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
WHOLE_WEEK = (1 << 7 * DAY_MINUTES) - 1


def load_policies(
    paths: Sequence[str | Path] | None = None, *, secret: bytes, currency: str = "EUR", native: bool = True
) -> CompiledPolicies:
    """The policies of these files and folders (their *.toml) as tables; the shipped ones if there are none.

    secret    16 bytes of the deployment: text in policies is hashed as that in events
    currency  ISO 4217, for policies that name none
    native    compile machine code too; without, `program_address` is all 0 and the virtual machine runs
    """
    if currency not in EXPONENTS:
        raise PolicyError(
            STEP, f'"{currency}" is no currency with minor units', did_you_mean(currency, tuple(EXPONENTS))
        )
    read = read_sources(paths or [SHIPPED])
    builder = _Builder(*key_words(secret), currency)
    builder.rows.names = gather(read, builder.hash_text)
    for number, source in enumerate(read):
        builder.add_campaigns(number, source)
    for source in read:
        builder.add(source)
    return fill_tables(builder.rows, _compile if native else None)


@dataclass(slots=True)
class _Builder:
    """Checks and compiles file by file; all names are known before."""

    k0: np.uint64
    k1: np.uint64
    default_currency: str
    rows: Rows = field(default_factory=Rows)
    hashes: dict[str, int] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        file = source.file
        defines = (
            file.journeys,
            file.segments,
            file.stages,
            file.joins,
            file.tables,
            file.caps,
            file.campaigns,
            file.quiet_hours,
            file.purposes,
        )
        if not any(defines):
            source.fail(
                "$",
                "the policy is empty",
                "[[journeys]], [[segments]], [[stages]], [[joins]], [[tables]], [[caps]], [[quiet_hours]],"
                " [[campaigns]]",
            )
        letters = self._currency(source)
        self.rows.policies.append(
            PolicyInfo(
                name=file.policy,
                version=file.version,
                digest=hashlib.sha256(source.data).hexdigest(),
                title=file.title,
                path=str(source.path),
                currency=letters,
                segments=tuple(segment.id for segment in file.segments),
                stages=tuple(stage.id for stage in file.stages),
                joins=tuple(join.id for join in file.joins),
                tables=tuple(table.name for table in file.tables),
                caps=tuple(cap.id for cap in file.caps),
                campaigns=tuple(campaign.id for campaign in file.campaigns),
                quiet_hours=tuple(quiet.id for quiet in file.quiet_hours),
                purposes=tuple((purpose.id, purpose.unknown) for purpose in file.purposes),
            )
        )
        scope = self._scope(source, letters)
        of_customer = replace(scope, customer_only=True, segments={}, stages={})
        for i, segment in enumerate(file.segments):
            self.rows.segments.append(self._condition(segment.when, of_customer.at(f"$.segments[{i}].when")))
        of_stage = replace(of_customer, segments=self.rows.names.segments)
        for i, stage in enumerate(file.stages):
            self._add_stage(source, stage, i, of_stage)
        self._check_reached(source)
        for i, join in enumerate(file.joins):
            self._add_join(source, join, scope, f"$.joins[{i}]")
        for i, cap in enumerate(file.caps):
            self._add_cap(source, cap, scope, f"$.caps[{i}]")
        for i, quiet in enumerate(file.quiet_hours):
            self._add_quiet(source, quiet, f"$.quiet_hours[{i}]")
        for i, journey in enumerate(file.journeys):
            self._add_journey(source, journey, scope, f"$.journeys[{i}]", letters)

    def add_campaigns(self, number: int, source: Source) -> None:
        """The campaigns of the policy with this number: before any offer, which may be another policy's."""
        if not source.file.campaigns:
            return
        letters = self._currency(source)
        scope = self._scope(source, letters)
        for i, campaign in enumerate(source.file.campaigns):
            path = f"$.campaigns[{i}]"
            when = compile_condition(campaign.when, scope.at(f"{path}.when"))
            terms = terms_of(source, campaign, scope, path, letters)
            self.rows.campaigns.append(CampaignRow(campaign, number, path, terms, when))

    def _currency(self, source: Source) -> str:
        letters = source.file.currency or self.default_currency
        if letters not in EXPONENTS:
            source.fail("$.currency", f'"{letters}" is no currency', did_you_mean(letters, tuple(EXPONENTS)))
        return letters

    def _scope(self, source: Source, letters: str) -> Scope:
        names = self.rows.names
        return Scope(
            file=str(source.path),
            path="$",
            types=CODE_BY_NAME,
            currency=letters_code(letters),
            minor_per_major=10 ** EXPONENTS[letters],
            hash_text=self.hash_text,
            segments=names.segments,
            stages=names.stages,
            joins=names.joins,
            tables=names.columns(),
            lookup=names.lookup,
        )

    def hash_text(self, text: str) -> int:
        if text not in self.hashes:
            self.hashes[text] = hash_text(text, self.k0, self.k1)
        return self.hashes[text]

    def _program(self, node: ir.Node) -> int:
        return self.rows.programs.setdefault(node, len(self.rows.programs))

    def _condition(self, text: str, scope: Scope) -> int:
        return self._program(compile_condition(text, scope))

    # --- segments, stages, joins ----------------------------------------------------------------------

    def _add_stage(self, source: Source, stage: model.Stage, index: int, scope: Scope) -> None:
        path = f"$.stages[{index}]"
        given = [stage.from_] if isinstance(stage.from_, str) else stage.from_
        if index == 0 and (stage.when is None) != (not given):
            source.fail(
                path,
                "everybody begins at the first stage: `when` and `from` let customers return to it",
                "give both or neither",
            )
        if index > 0 and stage.when is None:
            source.fail(path, "the field `when` is missing", "only the first stage needs none")
        from_stages = 0
        for name in given:
            before = known(source, f"{path}.from", "stage", name, self.rows.names.stages)
            if before == index:
                source.fail(
                    f"{path}.from", f'"{name}" is this stage itself', "name the stages it is entered from"
                )
            from_stages |= 1 << before
        if not given and index > 0:
            from_stages = 1 << index - 1
        when = -1 if stage.when is None else self._condition(stage.when, scope.at(f"{path}.when"))
        self.rows.stages.append(StageRow(from_stages, when))

    def _check_reached(self, source: Source) -> None:
        """Every stage of the file can be reached from the first."""
        reached = 1
        for _ in source.file.stages:
            for i, row in enumerate(self.rows.stages):
                if row.from_stages & reached:
                    reached |= 1 << i
        for i, stage in enumerate(source.file.stages):
            if not reached >> i & 1:
                source.fail(
                    f"$.stages[{i}].from",
                    f'no way leads from the first stage to "{stage.id}"',
                    f'name one of those that are reached: from = "{source.file.stages[0].id}"',
                )

    def _add_join(self, source: Source, join: model.Join, scope: Scope, path: str) -> None:
        number = len(self.rows.joins)
        left_at = scope.at(f"{path}.left")
        left = left_side(source, f"{path}.left", join.left, number, self.rows.names, left_at.event_type)
        by = _by(source, f"{path}.by", join.by, ("product",))
        self.rows.joins.append(
            JoinRow(
                join=join,
                left=left,
                stream=left_stream(number, left, by),
                right=scope.at(f"{path}.right").event_type(join.right),
                within_ms=scope.at(f"{path}.within").duration_ms(join.within),
            )
        )

    # --- caps -----------------------------------------------------------------------------------------

    def _add_cap(self, source: Source, cap: model.Cap, scope: Scope, path: str) -> None:
        if (cap.within is None) == (cap.calendar is None):
            given = (
                "neither `within` nor `calendar` is"
                if cap.within is None
                else "both `within` and `calendar` are"
            )
            source.fail(path, f"{given} given", 'a cap has one window: within = "7d" or calendar = "week"')
        if cap.within is not None:
            window = scope.at(f"{path}.within").duration_ms(cap.within)
        else:
            window = _calendar(source, f"{path}.calendar", cap.calendar or "")
        channels = _listed(source, f"{path}.channels", "channel", cap.channels, CHANNELS)
        purposes = _listed(source, f"{path}.purposes", "purpose", cap.purposes, PURPOSES)
        contacts = sum(1 << _contact(channel, purpose) for channel in channels for purpose in purposes)
        for other in self.rows.caps:
            if (other.contacts, other.window) == (contacts, window):
                source.fail(
                    path,
                    f"times = {cap.times} here, times = {other.cap.times} in the cap `{other.cap.id}`, of the same"
                    " actions in the same window",
                    "only the smaller counts: leave the other out",
                )
        self.rows.caps.append(CapRow(cap, len(self.rows.policies) - 1, path, contacts, window))

    # --- quiet hours ----------------------------------------------------------------------------------

    def _add_quiet(self, source: Source, quiet: model.QuietHours, path: str) -> None:
        from_ms = _time_of_day(source, f"{path}.from", quiet.from_)
        to_ms = _time_of_day(source, f"{path}.to", quiet.to)
        if from_ms == to_ms:
            source.fail(
                path,
                f'from = "{quiet.from_}" and to = "{quiet.to}" are the same time: all day, or never?',
                'give two times; `to` may be of the next day: from = "21:00", to = "08:00"',
            )
        if quiet.then not in THEN:
            source.fail(
                f"{path}.then",
                f'what would be sent is not "{quiet.then}"',
                did_you_mean(quiet.then, THEN),
            )
        sent_to = tuple(channel for channel in CHANNELS if channel not in CHANNELS_WITHOUT_CONSENT)
        channels = _listed(source, f"{path}.channels", "channel", quiet.channels, CHANNELS, sent_to)
        if quiet.then == "hold":
            for i, channel in enumerate(channels):
                if channel in CHANNELS_WITHOUT_CONSENT:
                    source.fail(
                        f"{path}.channels[{i}]",
                        f"nothing is sent on {channel} that could be held: the customer is there",
                        'leave it out, or then = "drop"',
                    )
        purposes = _listed(source, f"{path}.purposes", "purpose", quiet.purposes, PURPOSES)
        days = _listed(source, f"{path}.days", "day", quiet.days, DAYS)
        row = QuietRow(
            quiet=quiet,
            policy=len(self.rows.policies) - 1,
            path=path,
            contacts=sum(1 << _contact(channel, purpose) for channel in channels for purpose in purposes),
            from_ms=from_ms,
            to_ms=to_ms,
            days=sum(1 << DAYS.index(day) for day in days),
        )
        self.rows.quiet.append(row)
        for contact in range(plan.CONTACTS):
            if row.contacts >> contact & 1:
                self._check_free(source, row, contact)

    def _check_free(self, source: Source, row: QuietRow, contact: int) -> None:
        """What is to be sent is not both held and dropped, and something may be sent at some time of the week."""
        channel, purpose = CHANNELS[contact // len(PURPOSES)], PURPOSES[contact % len(PURPOSES)]
        for other in self.rows.quiet:
            if other.contacts >> contact & 1 and other.holds != row.holds and other.minutes & row.minutes:
                source.fail(
                    row.path,
                    f'then = "{row.quiet.then}" here, then = "{other.quiet.then}" in `{other.quiet.id}`, for {purpose}'
                    f" on {channel} at the same time",
                    "let one begin when the other ends, or leave the channel out of one",
                )
        minutes = reduce(or_, (other.minutes for other in self.rows.quiet if other.contacts >> contact & 1))
        if minutes == WHOLE_WEEK:
            source.fail(
                row.path,
                f"with it there is no minute of the week in which {channel} for {purpose} may be sent",
                "leave some time, or give the channel no offers",
            )

    # --- journeys -------------------------------------------------------------------------------------

    def _add_journey(
        self, source: Source, journey: model.Journey, scope: Scope, path: str, letters: str
    ) -> None:
        number = len(self.rows.journeys)
        journey, read = with_model_file(source, journey, path)
        self.rows.models += [read] if read else []
        kind, waits, gap_ms = self._kind(source, journey, scope, path)
        types: list[int] = []
        changes: list[int] = []
        for i, name in enumerate(journey.on):
            at = f"{path}.on[{i}]"
            change = self.rows.names.change(source, at, name)
            if change is not None and kind == plan.ON_WAIT:
                source.fail(
                    at, f"`{name}` cannot begin a wait", "an event does: name the event that causes it"
                )
            entries, code = (types, scope.at(at).event_type(name)) if change is None else (changes, change)
            if code in entries:
                source.fail(at, f"`{name}` stands here twice", "name each event and change once")
            entries.append(code)
        when = self._condition(journey.when, scope.at(f"{path}.when"))
        fired = replace(scope, waiting=kind == plan.ON_WAIT)
        still = -1
        if journey.still is not None:
            condition = compile_condition(journey.still, fired.at(f"{path}.still"))
            still = -1 if condition == ALWAYS else self._program(condition)
        features, names = self._features(source, journey, fired, path)
        layers = tuple(
            compile_condition(getattr(journey, layer), fired.at(f"{path}.{layer}")) for layer in LAYERS
        )
        limits = []
        for i, limit in enumerate(journey.limits):
            at = f"{path}.limits[{i}]"
            by = _by(source, f"{at}.by", limit.by, tuple(BY))
            window_ms = scope.at(f"{at}.within").duration_ms(limit.within)
            limits.append((ir.Stream(by, plan.SENT_TYPE + number, plan.COUNT), limit.times, window_ms))
        row = JourneyRow(
            policy=len(self.rows.policies) - 1,
            journey=journey,
            kind=kind,
            types=tuple(types),
            changes=tuple(changes),
            by=_by(source, f"{path}.by", journey.by, tuple(BY)),
            waits_ms=waits,
            gap_ms=gap_ms,
            when=when,
            still=still,
            features=features,
            limits=limits,
            expires_after_ms=scope.at(f"{path}.expires_after").duration_ms(journey.expires_after),
            goals=self._goals(source, journey, scope, path),
            programs=[program for program in (still, *features) if program >= 0],
        )
        if kind != plan.ON_WAIT:
            row.programs.append(when)
        seen: set[str] = set()
        for i, offer in enumerate(journey.offers):
            at = f"{path}.offers[{i}]"
            if offer.id in seen:
                source.fail(f"{at}.id", f'"{offer.id}" is the id of another offer here', "offer ids differ")
            seen.add(offer.id)
            self._add_offer(source, row, number, offer, names, layers, fired, at, letters)
        self.rows.journeys.append(row)

    def _kind(
        self, source: Source, journey: model.Journey, scope: Scope, path: str
    ) -> tuple[int, tuple[int, ...], int]:
        """The journey's kind, its waits and the gap of its sessions; fields that contradict it are refused."""
        if journey.session is not None:
            for name in ("on", "wait", "by", "restart", "still"):
                if getattr(journey, name):
                    source.fail(
                        f"{path}.{name}",
                        f"a journey with `session` has no `{name}`",
                        "it is decided when a session ends: leave it out, or leave `session` out",
                    )
            return plan.ON_SESSION, (), self._gap_ms(source, scope, f"{path}.session", journey.session)
        if not journey.on:
            source.fail(path, "the field `on` is missing", 'on = ["Product Viewed"], or session = "30m"')
        if not journey.wait:
            for name in ("by", "restart", "still"):
                if getattr(journey, name):
                    source.fail(
                        f"{path}.{name}",
                        f"`{name}` stands only beside `wait`",
                        'add wait = "30m", or leave it out',
                    )
            return plan.ON_EVENT, (), 0
        waits: list[int] = []
        for i, text in enumerate([journey.wait] if isinstance(journey.wait, str) else journey.wait):
            at = f"{path}.wait" if isinstance(journey.wait, str) else f"{path}.wait[{i}]"
            wait_ms = scope.at(at).duration_ms(text)
            if wait_ms > WAIT_MS_MAX:
                source.fail(at, f'"{text}" is too long a wait', f"at most {WAIT_MS_MAX // DAY_MS}d")
            if waits and wait_ms <= waits[-1]:
                source.fail(
                    at,
                    f'"{text}" is not longer than the wait before it',
                    'waits count from the event and ascend: ["30m", "24h", "72h"]',
                )
            waits.append(wait_ms)
        return plan.ON_WAIT, tuple(waits), 0

    def _gap_ms(self, source: Source, scope: Scope, path: str, text: str) -> int:
        gap_ms = scope.at(path).duration_ms(text)
        if not SESSION_GAP_MS_MIN <= gap_ms <= SESSION_GAP_MS_MAX:
            source.fail(
                path,
                f'"{text}" is no gap of a session',
                f"{SESSION_GAP_MS_MIN // MINUTE_MS}m to {SESSION_GAP_MS_MAX // DAY_MS}d",
            )
        return gap_ms

    def _features(
        self, source: Source, journey: model.Journey, scope: Scope, path: str
    ) -> tuple[list[int], tuple[str, ...]]:
        if journey.model is None:
            return [], ()
        names: list[str] = []
        programs = []
        for i, feature in enumerate(journey.model.features):
            at = f"{path}.model.features[{i}]"
            if feature.name in names:
                source.fail(
                    f"{at}.name", f'"{feature.name}" is another feature’s name', "feature names differ"
                )
            names.append(feature.name)
            programs.append(self._program(compile_number(feature.value, scope.at(f"{at}.value"))))
        return programs, tuple(names)

    def _add_offer(
        self,
        source: Source,
        row: JourneyRow,
        journey: int,
        offer: model.Offer,
        features: tuple[str, ...],
        layers: Sequence[ir.Node],
        scope: Scope,
        path: str,
        letters: str,
    ) -> None:
        if len(self.rows.offers) >= OFFERS_MAX:
            source.fail(path, f"there are more than {OFFERS_MAX} offers", "load fewer policies")
        if offer.channel not in CHANNELS:
            source.fail(
                f"{path}.channel",
                f'there is no channel "{offer.channel}"',
                did_you_mean(offer.channel, CHANNELS),
            )
        if offer.purpose not in PURPOSES:
            source.fail(
                f"{path}.purpose",
                f'there is no purpose "{offer.purpose}"',
                did_you_mean(offer.purpose, PURPOSES),
            )
        for name in offer.weights:
            if name not in features:
                hint = did_you_mean(name, features) if features else "add [journeys.model] with this feature"
                source.fail(f"{path}.weights", f'there is no feature "{name}"', hint)
        for name in ("value", "lever", "bias"):
            if not math.isfinite(getattr(offer, name)):
                source.fail(f"{path}.{name}", "this is not a finite number", "write a plain number")
        when = -1
        condition = compile_condition(offer.when, scope.at(f"{path}.when"))
        asked = self._steps(source, offer, row, f"{path}.steps")
        if asked is not None:
            condition = asked if condition == ALWAYS else ir.And(asked, condition)
        campaign = self._campaign(source, offer.voucher, f"{path}.voucher", letters)
        if campaign is not None and campaign.when != ALWAYS:
            condition = campaign.when if condition == ALWAYS else ir.And(condition, campaign.when)
        if condition != ALWAYS:
            when = self._program(condition)
            row.programs.append(when)
        applicable, suitable = (
            self._layer(row, of_all, compile_condition(getattr(offer, layer), scope.at(f"{path}.{layer}")))
            for layer, of_all in zip(LAYERS, layers, strict=True)
        )
        context, constant = -1, 1.0
        if isinstance(offer.context, str):
            value = compile_number(offer.context, scope.at(f"{path}.context"))
            if isinstance(value, ir.Number):
                constant = value.value
            else:
                context = self._program(value)
                row.programs.append(context)
        else:
            constant = float(offer.context)
        voucher = self._voucher(source, offer.voucher, campaign, row.kind, scope, f"{path}.voucher", letters)
        discount = None
        if offer.voucher is not None and campaign is None:
            discount = compile_discount(
                source, offer.voucher, scope, f"{path}.voucher", letters, self._program
            )
            if discount is not None:
                row.programs.append(discount.program)
        contact = _contact(offer.channel, offer.purpose)
        consent = -1 if offer.channel in CHANNELS_WITHOUT_CONSENT else contact
        self.rows.offers.append(
            OfferRow(
                journey=journey,
                offer=offer,
                when=when,
                applicable=applicable,
                suitable=suitable,
                context=context,
                context_constant=constant,
                consent=consent,
                contact=contact,
                voucher=voucher,
                discount=discount,
                campaign=-1 if campaign is None else self.rows.campaigns.index(campaign),
                currency=scope.currency if offer.voucher else 0,
                items=self._items(source, offer.items, scope, f"{path}.items"),
                take_back_ms=self._take_back_ms(source, offer, row, scope, f"{path}.take_back"),
            )
        )

    def _goals(self, source: Source, journey: model.Journey, scope: Scope, path: str) -> tuple[int, ...]:
        for i, name in enumerate(journey.goal):
            if name in journey.goal[:i]:
                source.fail(f"{path}.goal[{i}]", f"`{name}` stands here twice", "name each event once")
        return tuple(scope.at(f"{path}.goal[{i}]").event_type(name) for i, name in enumerate(journey.goal))

    def _take_back_ms(
        self, source: Source, offer: model.Offer, row: JourneyRow, scope: Scope, path: str
    ) -> int:
        if offer.take_back is None:
            return 0
        take_back_ms = scope.at(path).duration_ms(offer.take_back)
        if take_back_ms > row.expires_after_ms:
            expires = row.journey.expires_after
            source.fail(
                path,
                f'"{offer.take_back}" is longer than the action holds good, {expires}',
                f'at most `expires_after` of the journey: take_back = "{expires}"',
            )
        return take_back_ms

    def _layer(self, row: JourneyRow, of_all: ir.Node, own: ir.Node) -> int:
        """The program of a journey's condition and an offer's own, -1 if both always hold: offers without an own one
        share it."""
        parts = [part for part in (of_all, own) if part != ALWAYS]
        if not parts:
            return -1
        program = self._program(reduce(ir.And, parts))
        row.programs.append(program)
        return program

    def _steps(self, source: Source, offer: model.Offer, row: JourneyRow, path: str) -> ir.Node | None:
        """The test of the steps an offer is for; None if it is for all."""
        if not offer.steps:
            return None
        if row.kind != plan.ON_WAIT:
            source.fail(path, "`steps` stands only in a journey with `wait`", "leave it out")
        most = len(row.waits_ms)
        for step in offer.steps:
            if not 1 <= step <= most:
                source.fail(path, f"there is no step {step}", f"the steps of this journey: 1 to {most}")
            if offer.steps.count(step) > 1:
                source.fail(path, f"{step} stands here twice", "name each step once")
        if len(offer.steps) == most:
            return None
        tests: list[ir.Node] = [
            ir.Compare("==", ir.Step(), ir.Number(float(step))) for step in sorted(offer.steps)
        ]
        return reduce(ir.Or, tests)

    def _items(self, source: Source, items: model.Items | None, scope: Scope, path: str) -> ItemsRow | None:
        if items is None:
            return None
        code = scope.at(f"{path}.recent").event_type(items.recent)
        given = [name for name in ("within", "session", "calendar") if getattr(items, name) is not None]
        if len(given) > 1:
            source.fail(path, f"both `{given[0]}` and `{given[1]}` are given", "a list has one window")
        window = 0
        if items.within is not None:
            window = scope.at(f"{path}.within").duration_ms(items.within)
        elif items.session is not None:
            window = -self._gap_ms(source, scope, f"{path}.session", items.session)
        elif items.calendar is not None:
            window = _calendar(source, f"{path}.calendar", items.calendar)
        return ItemsRow(code, window, items.up_to)

    def _campaign(
        self, source: Source, voucher: model.Voucher | None, path: str, letters: str
    ) -> CampaignRow | None:
        """The campaign that is declared under the voucher's name, None if none is."""
        if voucher is None or voucher.campaign not in self.rows.names.campaigns:
            return None
        row = self.rows.campaigns[self.rows.names.campaigns[voucher.campaign]]
        for name in model.Voucher.__struct_fields__:
            if name != "campaign" and getattr(voucher, name) is not None:
                source.fail(
                    f"{path}.{name}",
                    f"`{name}` is what the campaign `{row.campaign.id}` says",
                    f'leave it out: voucher = {{ campaign = "{row.campaign.id}" }}',
                )
        declared = code_letters(row.terms.currency)
        if declared != letters:
            source.fail(
                f"{path}.campaign",
                f"the offer is in {letters}, the campaign `{row.campaign.id}` in {declared}",
                "a campaign has one currency: declare another one for this policy",
            )
        return row

    def _voucher(
        self,
        source: Source,
        voucher: model.Voucher | None,
        campaign: CampaignRow | None,
        kind: int,
        scope: Scope,
        path: str,
        letters: str,
    ) -> VoucherInfo | None:
        if voucher is None:
            return None
        if kind == plan.ON_SESSION:
            source.fail(
                path,
                "at the end of a session there is no event, and a voucher needs one in its currency",
                "leave it out, or let the journey `wait` after an event",
            )
        if campaign is not None:
            return promised_by(campaign, letters)
        if (voucher.discount_percent is None) == (voucher.discount_amount is None):
            source.fail(
                path,
                "a voucher has discount_percent or discount_amount",
                "give one of the two, or declare its campaign: [[campaigns]]",
            )
        percent, amount = voucher.discount_percent, voucher.discount_amount
        minor = None
        if isinstance(amount, float):
            minor = money_minor(source, f"{path}.discount_amount", amount, letters)
        return VoucherInfo(
            campaign=voucher.campaign,
            discount_percent=percent if isinstance(percent, float) else None,
            discount_amount_minor=minor,
            is_percent=percent is not None,
            currency=letters,
            valid_for_ms=scope.at(f"{path}.valid_for").duration_ms(voucher.valid_for or model.VALID_FOR),
            stack_group=voucher.stack_group or "",
        )


def _compile(programs: Sequence[ir.Node], layout: Layout) -> tuple[NativePrograms | None, str]:
    """Machine code, or why there is none on this computer: the virtual machine gives the same bits."""
    try:
        return compile_native(programs, layout), ""
    except (RuntimeError, OSError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


def _contact(channel: str, purpose: str) -> int:
    """plan.OFFER_CONTACT of an offer."""
    return CHANNELS.index(channel) * len(PURPOSES) + PURPOSES.index(purpose)


def _time_of_day(source: Source, path: str, text: str) -> int:
    """ "21:00" in ms since midnight."""
    found = TIME_OF_DAY.fullmatch(text)
    if found is None:
        source.fail(path, f'"{text}" is no time of a day', 'hours and minutes, from "00:00" to "23:59"')
    return int(found[1]) * HOUR_MS + int(found[2]) * MINUTE_MS


def _listed(
    source: Source,
    path: str,
    what: str,
    names: Sequence[str] | None,
    among: tuple[str, ...],
    absent: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """The channels, purposes or days that are named, each once; if none are all, or what `absent` says."""
    if names is None:
        return among if absent is None else absent
    for i, name in enumerate(names):
        if name not in among:
            source.fail(f"{path}[{i}]", f'there is no {what} "{name}"', did_you_mean(name, among))
        if name in names[:i]:
            source.fail(f"{path}[{i}]", f'"{name}" stands here twice', f"name each {what} once")
    return tuple(names)


def _calendar(source: Source, path: str, text: str) -> int:
    """The window of an hour, day, week or month."""
    if text not in CALENDAR:
        source.fail(path, f'the calendar knows no "{text}"', did_you_mean(text, tuple(CALENDAR)))
    return CALENDAR[text]


def _by(source: Source, path: str, text: str | None, known_words: tuple[str, ...]) -> int:
    if text is None:
        return plan.BY_NONE
    if text not in known_words:
        source.fail(path, f'`by` knows no "{text}"', did_you_mean(text, known_words))
    return BY[text]
