"""What every client of Kafka is made of: properties, librdkafka's log, and errors that people can act on.

Properties are librdkafka's own. They come, each winning over those before, from Segue's defaults, the settings'
`properties`, their `properties_file`, and the environment: SEGUE_KAFKA_SASL_PASSWORD is sasl.password. What the
engine's guarantees stand on can't be changed. Secrets come from a file or the environment only, and are never told.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from segue.errors import SegueError, SettingsError, did_you_mean
from segue.kafka.library import error_name, known_properties, refusal_of
from segue.kafka.settings import KafkaSettings
from segue.limits import BROKER_WAIT_MS, KAFKA_LOG_AGAIN_MS

Kind = Literal["consumer", "producer", "admin"]
LOG = logging.getLogger("segue.kafka")
LIBRARY_LOG = logging.getLogger("segue.kafka.librdkafka")
ENVIRONMENT_PREFIX = "SEGUE_KAFKA_"
_STEP = "read the Kafka settings"
_ASK_SECONDS = 1.0

# what can't be changed, and why
_MUST: dict[Kind, dict[str, tuple[str, str]]] = {
    "consumer": {
        "enable.auto.commit": ("false", "the offsets are part of the engine's own state"),
        "enable.auto.offset.store": ("false", "the offsets are part of the engine's own state"),
        "auto.offset.reset": ("error", "a place that is gone must be told, not passed over"),
        "isolation.level": ("read_committed", "what was not committed must not be decided on"),
        "enable.partition.eof": ("false", "the end of a partition is asked for"),
        "allow.auto.create.topics": ("false", "a topic with a wrong name must be told, not made"),
    },
    "producer": {
        "enable.idempotence": ("true", "a message that is sent again must not arrive twice"),
        "acks": ("all", "what was sent must survive the loss of a broker"),
        "allow.auto.create.topics": ("false", "a topic with a wrong name must be told, not made"),
    },
    "admin": {},
}
_ALIASES = {
    "metadata.broker.list": "bootstrap.servers",
    "request.required.acks": "acks",
    "sasl.mechanism": "sasl.mechanisms",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
}
# what Segue sets by itself: by the engine's arguments, or not at all
_ELSEWHERE = {
    "bootstrap.servers": "give the brokers with --brokers (kafka.brokers in the settings)",
    "group.id": "leave it out: partitions are assigned by the engine, and no group commits offsets",
    "group.instance.id": "leave it out: partitions are assigned by the engine",
    "transactional.id": "leave it out: it is made of the deployment's name (kafka.name in the settings)",
    "log.queue": "leave it out: the log goes to Python's logging",
}
_DEFAULTS = {
    "socket.keepalive.enable": "true",
    "log.connection.close": "false",
    "reconnect.backoff.max.ms": "1000",
}
_HIDDEN = ("password", "passphrase", "secret", "key", "oauthbearer", "jaas", "token", ".pem")
_SECRETS = ("password", "passphrase", "secret", "key.pem", "ssl_key", "oauthbearer.config")
_PUBLIC = ("location", "keytab", ".file", "method", "mechanism", "url", "type", "algorithm")


class Properties(dict[str, str]):
    """Properties of a client. Its text shows no secret."""

    def __repr__(self) -> str:
        shown = {name: "***" if is_secret(name) else value for name, value in self.items()}
        return f"Properties({shown})"

    __str__ = __repr__


def is_secret(name: str) -> bool:
    """Whether a property's value must not be shown: when in doubt it must not."""
    return any(word in name for word in _HIDDEN) and not name.endswith(_PUBLIC)


def client_properties(
    settings: KafkaSettings,
    kind: Kind,
    *,
    defaults: Mapping[str, str | int] | None = None,
    own: Mapping[str, str | int] | None = None,
) -> Properties:
    """The properties of a client of this kind.

    defaults  of the caller: whoever sets others wins
    own       of the caller: whoever sets others is refused

    Raises SettingsError: no brokers, an unknown property or value, a secret in the settings, one that contradicts.
    """
    if not settings.brokers:
        raise SettingsError(_STEP, "no brokers are given", "--brokers 127.0.0.1:9092")
    must = {name: value for name, (value, _) in _MUST[kind].items()}
    must |= {name: str(value) for name, value in (own or {}).items()}
    merged = {**_DEFAULTS, "client.id": settings.name}
    merged |= {name: str(value) for name, value in (defaults or {}).items()}
    for name, (value, place) in _given(settings).items():
        name = _ALIASES.get(name, name)
        _check(name, value, place, kind, must)
        merged[name] = value
    merged |= must
    # of a property that only another kind of client has librdkafka would complain
    users = {"consumer": "C", "producer": "P", "admin": "P"}[kind]
    known = known_properties()
    chosen = {name: value for name, value in merged.items() if known.get(name, "*") in ("*", users)}
    return Properties({**chosen, "bootstrap.servers": settings.brokers})


def _given(settings: KafkaSettings) -> dict[str, tuple[str, str]]:
    """Property -> (value, where it stands), of what the people who run this gave."""
    given: dict[str, tuple[str, str]] = {}
    for name, value in settings.properties.items():
        if any(word in name for word in _SECRETS):
            raise SettingsError(
                _STEP,
                f'"{name}" stands in the settings, which are no place for a secret',
                f"put it in the environment ({variable_of(name)}) or in a file that kafka.properties_file names",
            )
        given[name] = (value, "kafka.properties")
    if settings.properties_file:
        given |= _of_file(settings.properties_file)
    known = known_properties()
    for variable, value in sorted(os.environ.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            folded = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            # a few names have an underscore of their own
            name = folded if folded in known else folded.replace("_", ".")
            given[name] = (value, variable)
    return given


def variable_of(name: str) -> str:
    """The environment variable that sets a property."""
    return ENVIRONMENT_PREFIX + name.upper().replace(".", "_")


def _of_file(path: str) -> dict[str, tuple[str, str]]:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            _STEP, f'the properties file "{path}" can\'t be read: {reason}', "check kafka.properties_file"
        ) from error
    given = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            # the line itself may be a secret
            raise SettingsError(_STEP, f'"{path}", line {number}: there is no "="', "one name=value a line")
        given[name.strip()] = (value.strip(), f'"{path}", line {number}')
    return given


def _check(name: str, value: str, place: str, kind: Kind, must: Mapping[str, str]) -> None:
    if name in _ELSEWHERE and name not in must:
        raise SettingsError(_STEP, f"{name} ({place}) can't be set", _ELSEWHERE[name])
    if name not in known_properties() or name.endswith("_cb"):
        names = [known for known in known_properties() if not known.endswith("_cb")]
        raise SettingsError(
            _STEP, f'"{name}" ({place}) is no property of librdkafka', did_you_mean(name, names)
        )
    kinds: tuple[Kind, ...] = (kind, "consumer", "producer")
    for other in kinds:
        reasons = _MUST[other]
        wanted = must.get(name) or (reasons[name][0] if name in reasons else None)
        if wanted is not None and value.lower() != wanted.lower() and not _same(name, value, wanted):
            why = reasons[name][1] if name in reasons else "the engine sets it"
            raise SettingsError(_STEP, f'{name} ({place}) must be "{wanted}": {why}', "leave it out")
    refusal = refusal_of(name, value)
    if refusal is not None:
        found = f"{name} ({place}) is not valid"
        raise SettingsError(
            _STEP, found if is_secret(name) else f"{found}: {refusal}", "see CONFIGURATION.md of librdkafka"
        )


def _same(name: str, value: str, wanted: str) -> bool:
    return (name == "acks" and {value, wanted} == {"-1", "all"}) or (
        wanted in ("true", "false") and value.lower() in {"true": ("1", "t"), "false": ("0", "f")}[wanted]
    )


# --- errors ------------------------------------------------------------------------------------------

_UNREACHABLE = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_TIMED_OUT_QUEUE")
_AUTHORIZATION = (
    "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
)
_FENCED = ("_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "INVALID_PRODUCER_ID_MAPPING")
# what a broker that is stopping or starting causes too: not yet a fault of the settings
_PASSING = ("disconnected", "timed out", "connection reset", "broken pipe", "connection refused", "closed")


def is_final(name: str, text: str) -> bool:
    """Whether an error of a connection won't go away by trying again."""
    if name not in ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL"):
        return name in ("_FATAL", "UNSUPPORTED_SASL_MECHANISM", "ILLEGAL_SASL_STATE")
    lowered = text.lower()
    # "the certificate has expired" is none of these, "disconnected while verifying the certificate" is
    return not any(word in lowered for word in _PASSING)


def kafka_error(
    step: str, error: KafkaError | tuple[int, str], error_class: type[SegueError] = SegueError
) -> SegueError:
    """What to tell people: `error` is confluent-kafka's, or librdkafka's (code, text)."""
    code, text = error if isinstance(error, tuple) else (error.code(), error.str())
    name = error_name(code)
    text = text.strip().rstrip(".")
    if name in (
        "_AUTHENTICATION",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE",
    ):
        found = f"the broker refuses who we are: {text}"
        hint = (
            "check sasl.mechanisms, sasl.username and sasl.password "
            f"({variable_of('sasl.password')}, or the properties file)"
        )
    elif name == "_SSL":
        found = f"no TLS connection: {text}"
        hint = "check security.protocol, ssl.ca.location, and that the certificate names the host as --brokers does"
    elif name in _UNREACHABLE:
        found = f"no broker can be reached: {text}"
        hint = (
            "check that the broker runs and --brokers; where it wants TLS or SASL, "
            f"set security.protocol ({variable_of('security.protocol')})"
        )
    elif name in _AUTHORIZATION:
        found = f"the broker does not allow it: {text}"
        hint = "give this user the right (an ACL): Read on inputs, Read and Write on outputs"
        if name == "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
            hint = "give this user the right Write on the transactional ids that begin with this deployment's name"
    elif name in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID"):
        found = f"a topic is not there: {text}"
        hint = "make it: segue topics create"
    elif name in _FENCED:
        found = f"another engine of the same name has taken over: {text}"
        hint = "run one engine of a name; give a second one a name of its own (kafka.name in the settings)"
    else:
        found = f"{text} ({name})"
        hint = ""
    return error_class(step, found, hint)


# --- clients of confluent-kafka ----------------------------------------------------------------------


class _Sparse(logging.Filter):
    """A broker that is away is told of at every attempt to reach it: of a kind of line one a while is enough."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.getMessage().partition(" ")[0]
        now = time.monotonic()
        if now < self._told.get(kind, -math.inf) + KAFKA_LOG_AGAIN_MS / 1_000:
            return False
        self._told[kind] = now
        return True


LIBRARY_LOG.addFilter(_Sparse())


def client_arguments(
    properties: Properties, on_error: Callable[[KafkaError], None] | None = None
) -> dict[str, Any]:
    """What confluent-kafka's classes take: the properties, the log to Python's logging, errors to a function.

    Both are called from the client's poll() and flush().
    """
    arguments: dict[str, Any] = {**properties, "logger": LIBRARY_LOG}
    if on_error is not None:
        arguments["error_cb"] = on_error
    return arguments


def connect_admin(
    settings: KafkaSettings,
    step: str,
    error_class: type[SegueError] = SegueError,
    wait_ms: int = BROKER_WAIT_MS,
) -> tuple[AdminClient, ClusterMetadata]:
    """A client for questions and orders, and what the cluster holds.

    Raises the error class when nobody answers within `wait_ms`, and at once when the answer is that we may not.
    """
    last: list[KafkaError] = []
    final: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        # "all brokers down" follows each of the others and says less
        if error.name() != "_ALL_BROKERS_DOWN" or not last:
            last[:] = [error]
        if is_final(error.name(), error.str()):
            final.append(error)

    try:
        admin = AdminClient(client_arguments(client_properties(settings, "admin"), note))
    except KafkaException as error:
        raise SettingsError(_STEP, error.args[0].str(), "check the properties") from None
    deadline = time.monotonic() + wait_ms / 1_000
    told = False
    while True:
        try:
            return admin, admin.list_topics(timeout=_ASK_SECONDS)
        except KafkaException as error:
            admin.poll(0)
            if not last:
                note(error.args[0])
        if final or time.monotonic() >= deadline:
            raise kafka_error(step, (final or last)[0], error_class)
        if not told:
            told = True
            LOG.warning(
                "no broker has answered yet at %s: waiting, for %.0f s at most",
                settings.brokers,
                wait_ms / 1_000,
            )
