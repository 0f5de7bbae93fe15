"""Files of policies → `CompiledPolicies`: read, check, plan the state, assemble, and compile to machine code.

Law: equal files give equal tables whatever the order of the paths; a file that loads cannot fail later. With
no paths the shipped policies are loaded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np

from segue.errors import PolicyError, did_you_mean
from segue.events.hashing import hash_text, key_words
from segue.events.money import EXPONENTS, letters_code
from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES
from segue.limits import JOURNEYS_MAX, MONEY_MINOR_MAX, OFFERS_MAX, POLICY_BYTES_MAX, SLOTS_MAX
from segue.policy import ir, model
from segue.policy.assemble import assemble
from segue.policy.compiled import (
    CompiledPolicies,
    Float64Array,
    Int64Array,
    JourneyInfo,
    OfferInfo,
    PolicyInfo,
    VoucherInfo,
    no_extras,
)
from segue.policy.expression import BY, STEP, Scope, compile_condition, compile_number
from segue.policy.native import NativePrograms, compile_native
from segue.policy.plan import Layout, Need, lay_out, needs_of
from segue_kernels import plan

SHIPPED = Path(__file__).parent / "shipped"
CHANNELS_WITHOUT_CONSENT = ("web", "till")  # the customer is there: nothing is sent
ALWAYS = ir.Number(1.0)


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
    files = _files(paths)
    read = [_Source(path, data, model.read_policy(data, str(path))) for path, data in files]
    read.sort(key=lambda source: source.file.policy)
    for before, after in pairwise(read):
        if before.file.policy == after.file.policy:
            raise PolicyError(
                STEP,
                f'{after.path}: `$.policy`: "{after.file.policy}" is the name of {before.path} too',
                "give every policy a name of its own",
            )
    builder = _Builder(*key_words(secret), currency)
    for source in read:
        builder.add(source)
    return builder.build(native)


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    data: bytes
    file: model.PolicyFile


def _files(paths: Sequence[str | Path] | None) -> list[tuple[Path, bytes]]:
    """Each file once, with its bytes."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths or [SHIPPED]):
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
class _JourneyRow:
    """A journey on its way into the tables."""

    source: _Source
    policy: int
    journey: model.Journey
    types: tuple[int, ...]
    when: int
    features: list[int]
    limits: list[tuple[ir.Stream, int, int]]  # stream, times, window_ms
    expires_after_ms: int
    programs: list[int]  # all it may run


@dataclass(slots=True)
class _OfferRow:
    journey: int
    offer: model.Offer
    when: int
    context: int
    context_constant: float
    consent: int
    voucher: VoucherInfo | None
    currency: int


@dataclass(slots=True)
class _Builder:
    k0: np.uint64
    k1: np.uint64
    default_currency: str
    policies: list[PolicyInfo] = field(default_factory=list)
    programs: dict[ir.Node, int] = field(default_factory=dict)
    journeys: list[_JourneyRow] = field(default_factory=list)
    offers: list[_OfferRow] = field(default_factory=list)
    journey_ids: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, int] = field(default_factory=dict)

    # --- checking -------------------------------------------------------------------------------------

    def add(self, source: _Source) -> None:
        file = source.file
        letters = file.currency or self.default_currency
        if letters not in EXPONENTS:
            _fail(
                source, "$.currency", f'"{letters}" is no currency', did_you_mean(letters, tuple(EXPONENTS))
            )
        digest = hashlib.sha256(source.data).hexdigest()
        self.policies.append(
            PolicyInfo(file.policy, file.version, digest, file.title, str(source.path), letters)
        )
        scope = Scope(
            str(source.path), "$", CODE_BY_NAME, letters_code(letters), 10 ** EXPONENTS[letters], self._hash
        )
        for i, journey in enumerate(file.journeys):
            self._add_journey(source, journey, scope, f"$.journeys[{i}]", letters)

    def _hash(self, text: str) -> int:
        if text not in self.hashes:
            self.hashes[text] = hash_text(text, self.k0, self.k1)
        return self.hashes[text]

    def _program(self, node: ir.Node) -> int:
        return self.programs.setdefault(node, len(self.programs))

    def _add_journey(
        self, source: _Source, journey: model.Journey, scope: Scope, path: str, letters: str
    ) -> None:
        if journey.id in self.journey_ids:
            _fail(
                source,
                f"{path}.id",
                f'"{journey.id}" is the id of a journey in {self.journey_ids[journey.id]} too',
                "journey ids are unique in a deployment",
            )
        self.journey_ids[journey.id] = str(source.path)
        number = len(self.journeys)
        if number >= JOURNEYS_MAX:
            _fail(source, path, f"there are more than {JOURNEYS_MAX} journeys", "load fewer policies")
        types = []
        for i, name in enumerate(journey.on):
            code = scope.at(f"{path}.on[{i}]").event_type(name)
            if code in types:
                _fail(source, f"{path}.on[{i}]", f'"{name}" stands here twice', "name each event once")
            types.append(code)
        when = self._program(compile_condition(journey.when, scope.at(f"{path}.when")))
        features, names = self._features(source, journey, scope, path)
        limits = []
        for i, limit in enumerate(journey.limits):
            at = f"{path}.limits[{i}]"
            if limit.by is not None and limit.by not in BY:
                _fail(source, f"{at}.by", f'`by` knows no "{limit.by}"', did_you_mean(limit.by, tuple(BY)))
            by = BY[limit.by] if limit.by else plan.BY_NONE
            window_ms = scope.at(f"{at}.within").duration_ms(limit.within)
            limits.append((ir.Stream(by, plan.SENT_TYPE + number, plan.COUNT), limit.times, window_ms))
        row = _JourneyRow(
            source=source,
            policy=len(self.policies) - 1,
            journey=journey,
            types=tuple(types),
            when=when,
            features=features,
            limits=limits,
            expires_after_ms=scope.at(f"{path}.expires_after").duration_ms(journey.expires_after),
            programs=[when, *features],
        )
        seen: set[str] = set()
        for i, offer in enumerate(journey.offers):
            at = f"{path}.offers[{i}]"
            if offer.id in seen:
                _fail(source, f"{at}.id", f'"{offer.id}" is the id of another offer here', "offer ids differ")
            seen.add(offer.id)
            self._add_offer(source, row, number, offer, names, scope, at, letters)
        self.journeys.append(row)

    def _features(
        self, source: _Source, journey: model.Journey, scope: Scope, path: str
    ) -> tuple[list[int], tuple[str, ...]]:
        if journey.model is None:
            return [], ()
        names: list[str] = []
        programs = []
        for i, feature in enumerate(journey.model.features):
            at = f"{path}.model.features[{i}]"
            if feature.name in names:
                _fail(
                    source,
                    f"{at}.name",
                    f'"{feature.name}" is another feature’s name',
                    "feature names differ",
                )
            names.append(feature.name)
            programs.append(self._program(compile_number(feature.value, scope.at(f"{at}.value"))))
        return programs, tuple(names)

    def _add_offer(
        self,
        source: _Source,
        row: _JourneyRow,
        journey: int,
        offer: model.Offer,
        features: tuple[str, ...],
        scope: Scope,
        path: str,
        letters: str,
    ) -> None:
        if len(self.offers) >= OFFERS_MAX:
            _fail(source, path, f"there are more than {OFFERS_MAX} offers", "load fewer policies")
        if offer.channel not in CHANNELS:
            _fail(
                source,
                f"{path}.channel",
                f'there is no channel "{offer.channel}"',
                did_you_mean(offer.channel, CHANNELS),
            )
        if offer.purpose not in PURPOSES:
            _fail(
                source,
                f"{path}.purpose",
                f'there is no purpose "{offer.purpose}"',
                did_you_mean(offer.purpose, PURPOSES),
            )
        for name in offer.weights:
            if name not in features:
                hint = did_you_mean(name, features) if features else "add [journeys.model] with this feature"
                _fail(source, f"{path}.weights", f'there is no feature "{name}"', hint)
        for name in ("value", "lever", "bias"):
            if not math.isfinite(getattr(offer, name)):
                _fail(source, f"{path}.{name}", "this is not a finite number", "write a plain number")
        when = -1
        condition = compile_condition(offer.when, scope.at(f"{path}.when"))
        if condition != ALWAYS:
            when = self._program(condition)
            row.programs.append(when)
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
        consent = -1
        if offer.channel not in CHANNELS_WITHOUT_CONSENT:
            consent = CHANNELS.index(offer.channel) * 2 + PURPOSES.index(offer.purpose)
        voucher = self._voucher(source, offer.voucher, scope, f"{path}.voucher", letters)
        self.offers.append(
            _OfferRow(
                journey, offer, when, context, constant, consent, voucher, scope.currency if voucher else 0
            )
        )

    def _voucher(
        self, source: _Source, voucher: model.Voucher | None, scope: Scope, path: str, letters: str
    ) -> VoucherInfo | None:
        if voucher is None:
            return None
        if (voucher.discount_percent is None) == (voucher.discount_amount is None):
            _fail(
                source,
                path,
                "a voucher has discount_percent or discount_amount",
                "give one of the two",
            )
        minor = None
        if voucher.discount_amount is not None:
            exact = Decimal(repr(voucher.discount_amount)) * scope.minor_per_major
            minor = int(exact)
            if minor != exact or not 0 < minor <= MONEY_MINOR_MAX:
                _fail(
                    source,
                    f"{path}.discount_amount",
                    f"{voucher.discount_amount} is not a sum of money in {letters}",
                    f"{letters} has {EXPONENTS[letters]} decimals",
                )
        valid_for_ms = scope.at(f"{path}.valid_for").duration_ms(voucher.valid_for)
        return VoucherInfo(
            voucher.campaign, voucher.discount_percent, minor, letters, valid_for_ms, voucher.stack_group
        )

    # --- tables ---------------------------------------------------------------------------------------

    def build(self, native: bool) -> CompiledPolicies:
        programs = tuple(self.programs)
        needs: list[Need] = [need for program in programs for need in needs_of(program)]
        for journey in self.journeys:
            needs += [Need(stream, times, window_ms) for stream, times, window_ms in journey.limits]
        layout = lay_out(needs)
        assembled = assemble(programs, layout)
        compiled, problem = _compile(programs, layout) if native else (None, "")
        slots = self._slots()
        journeys, journeys_f, limits, features, weights = self._journey_tables(layout)
        offers, offers_f = self._offer_tables(slots)
        listen_start, listen = _by_type(
            [
                (int(row[plan.STREAM_TYPE]), i)
                for i, row in enumerate(layout.streams)
                if row[plan.STREAM_TYPE] < plan.SENT_TYPE
            ]
        )
        trigger_start, trigger = _by_type(
            [(code, i) for i, journey in enumerate(self.journeys) for code in journey.types]
        )
        locate_start, locate = _by_type(self._located(layout, programs))
        return CompiledPolicies(
            streams=layout.streams,
            listen_start=listen_start,
            listen=listen,
            trigger_start=trigger_start,
            trigger=trigger,
            locate_start=locate_start,
            locate=locate,
            journeys=journeys,
            journeys_f=journeys_f,
            offers=offers,
            offers_f=offers_f,
            limits=limits,
            features=features,
            weights=weights,
            slot_hash=_hashes(f"{channel}/{placement}" for channel, placement in slots),
            journey_hash=_hashes(journey.journey.id for journey in self.journeys),
            program_start=assembled.program_start,
            code=assembled.code,
            constants=assembled.constants,
            program_address=np.zeros(len(programs), dtype=np.int64) if compiled is None else compiled.address,
            **no_extras(),
            row_words=layout.row_words,
            policies=tuple(self.policies),
            journey_infos=tuple(self._journey_info(journey) for journey in self.journeys),
            offer_infos=tuple(
                OfferInfo(o.id, row.journey, o.variant, o.channel, o.placement, o.purpose, row.voucher)
                for row in self.offers
                for o in (row.offer,)
            ),
            slots=tuple(slots),
            programs=programs,
            digest=self._digest(),
            layout_digest=hashlib.sha256(layout.streams.tobytes()).hexdigest(),
            native=compiled,
            native_problem=problem,
        )

    def _digest(self) -> str:
        parts = [(p.name, p.version, p.digest, p.currency) for p in self.policies]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    def _slots(self) -> list[tuple[str, str]]:
        """By channel in the order of the registry, then placement."""
        found = {(row.offer.channel, row.offer.placement) for row in self.offers}
        if len(found) > SLOTS_MAX:
            raise PolicyError(
                STEP, f"there are {len(found)} slots; at most {SLOTS_MAX}", "use fewer placements"
            )
        return sorted(found, key=lambda slot: (CHANNELS.index(slot[0]), slot[1]))

    def _journey_info(self, row: _JourneyRow) -> JourneyInfo:
        used = row.journey.model
        return JourneyInfo(
            id=row.journey.id,
            step=1,
            policy=row.policy,
            types=tuple(row.journey.on),
            expires_after_ms=row.expires_after_ms,
            model_name=used.name if used else "",
            model_version=used.version if used else "",
            feature_names=tuple(feature.name for feature in used.features) if used else (),
        )

    def _journey_tables(
        self, layout: Layout
    ) -> tuple[
        Int64Array,
        Float64Array,
        Int64Array,
        Int64Array,
        Float64Array,
    ]:
        journeys = np.zeros((len(self.journeys), plan.JOURNEY_WORDS), dtype=np.int64)
        journeys_f = np.zeros((len(self.journeys), plan.JOURNEY_F_WORDS), dtype=np.float64)
        limits: list[list[int]] = []
        features: list[int] = []
        weights: list[float] = []
        offer = 0
        for i, row in enumerate(self.journeys):
            own = row.journey.offers
            charged: set[ir.Stream] = set()
            journeys[i, plan.JOURNEY_POLICY] = row.policy
            journeys[i, plan.JOURNEY_WHEN] = row.when
            journeys[i, plan.JOURNEY_OFFERS_START] = offer
            journeys[i, plan.JOURNEY_OFFERS_END] = offer + len(own)
            journeys[i, plan.JOURNEY_PRIORITY] = row.journey.priority
            journeys[i, plan.JOURNEY_ALONGSIDE] = row.journey.alongside
            journeys[i, plan.JOURNEY_FEATURES_START] = len(features)
            journeys[i, plan.JOURNEY_FEATURES_COUNT] = len(row.features)
            journeys[i, plan.JOURNEY_WEIGHTS_START] = len(weights)
            journeys[i, plan.JOURNEY_LIMITS_START] = len(limits)
            for stream, times, window_ms in row.limits:
                limits.append([layout.index[stream], times, window_ms, stream not in charged])
                charged.add(stream)
            journeys[i, plan.JOURNEY_LIMITS_END] = len(limits)
            journeys[i, plan.JOURNEY_SENT_STREAMS] = len(charged)
            journeys_f[i, plan.JOURNEY_F_SCORE_MIN] = row.journey.score_min
            features += row.features
            if row.journey.model is not None:
                for feature in row.journey.model.features:
                    weights += [float(o.weights.get(feature.name, 0.0)) for o in own]
            offer += len(own)
        return (
            journeys,
            journeys_f,
            np.array(limits, dtype=np.int64).reshape(-1, plan.LIMIT_WORDS),
            np.array(features, dtype=np.int64),
            np.array(weights, dtype=np.float64),
        )

    def _offer_tables(self, slots: list[tuple[str, str]]) -> tuple[Int64Array, Float64Array]:
        offers = np.zeros((len(self.offers), plan.OFFER_WORDS), dtype=np.int64)
        offers_f = np.zeros((len(self.offers), plan.OFFER_F_WORDS), dtype=np.float64)

        def tie(i: int) -> tuple[int, str, str]:
            journey = self.journeys[self.offers[i].journey].journey
            return -journey.priority, self.offers[i].offer.id, journey.id

        rank = {i: place for place, i in enumerate(sorted(range(len(self.offers)), key=tie))}
        slot_index = {slot: i for i, slot in enumerate(slots)}
        for i, row in enumerate(self.offers):
            offers[i, plan.OFFER_JOURNEY] = row.journey
            offers[i, plan.OFFER_SLOT] = slot_index[row.offer.channel, row.offer.placement]
            offers[i, plan.OFFER_WHEN] = row.when
            offers[i, plan.OFFER_TIE_RANK] = rank[i]
            offers[i, plan.OFFER_CONSENT] = row.consent
            offers[i, plan.OFFER_CONTEXT] = row.context
            offers[i, plan.OFFER_CURRENCY] = row.currency
            offers_f[i, plan.OFFER_F_VALUE] = row.offer.value
            offers_f[i, plan.OFFER_F_LEVER] = row.offer.lever
            offers_f[i, plan.OFFER_F_CONTEXT] = row.context_constant
            offers_f[i, plan.OFFER_F_BIAS] = row.offer.bias
        return offers, offers_f

    def _located(self, layout: Layout, programs: Sequence[ir.Node]) -> list[tuple[int, int]]:
        """(event type, keyed stream) for all that the type's journeys may read by product or category."""
        pairs: set[tuple[int, int]] = set()
        for journey in self.journeys:
            streams = {atom.stream for program in journey.programs for atom in ir.atoms(programs[program])}
            streams |= {stream for stream, _, _ in journey.limits}
            keyed = [layout.index[stream] for stream in streams if stream.by]
            pairs |= {(code, stream) for code in journey.types for stream in keyed}
        return sorted(pairs)


def _compile(programs: Sequence[ir.Node], layout: Layout) -> tuple[NativePrograms | None, str]:
    """Machine code, or why there is none on this computer: the virtual machine gives the same bits."""
    try:
        return compile_native(programs, layout), ""
    except (RuntimeError, OSError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


def _by_type(
    pairs: list[tuple[int, int]],
) -> tuple[Int64Array, Int64Array]:
    """(start int64[257], values) of (type, value) pairs: values of a type ascending."""
    pairs = sorted(pairs)
    start = np.zeros(plan.TYPES + 1, dtype=np.int64)
    for code, _ in pairs:
        start[code + 1] += 1
    return np.cumsum(start), np.array([value for _, value in pairs], dtype=np.int64)


def _hashes(texts: Iterable[str]) -> Int64Array:
    zero = np.uint64(0)
    return np.array([hash_text(text, zero, zero) for text in texts], dtype=np.int64)


def _fail(source: _Source, path: str, message: str, hint: str) -> NoReturn:
    raise PolicyError(STEP, f"{source.path}: `{path}`: {message}", hint)
