"""What a run is told: inputs, outputs, policies and the deployment's fixed values.

Processes of one run share them as a JSON file whose path is in the environment (SEGUE_SETTINGS).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from segue import limits
from segue.clock import WALL_CLOCK
from segue.errors import SettingsError, did_you_mean
from segue.events.hashing import SECRET_BYTES
from segue.events.names import CHANNELS
from segue.kafka.settings import KafkaSettings
from segue.reference.zones import zone_number
from segue.state.shard import EngineSettings

SETTINGS_VARIABLE = "SEGUE_SETTINGS"
SECRET_VARIABLE = "SEGUE_SECRET"
SECRET_FILE_VARIABLE = "SEGUE_SECRET_FILE"
_EMBEDDED_SECRET = b"segue embedded 1"  # keys hashes where nobody set a secret: trying out, tests, benchmarks
_STEP = "read the settings"
LogMode = Literal["off", "sampled", "complete"]
LogFormat = Literal["arrow", "parquet"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run. Times in milliseconds; the secret is not here: it comes from the environment (see `secret`).

    inputs       files, folders, "-"; or the name of a data set
    live         the events happen now: what is too far ahead of the wall clock is set to it, and where an input is
                 confirmed to be idle the wall clock moves time on. Otherwise the run is a replay: only event time
    arrival_ms   of a replay: when the run began (0: when the settings are loaded); events further ahead of it than
                 FUTURE_MS_MAX are dead letters
    timezone     IANA name; of customers who told none
    tables       file of each reference table, by name
    pace_path    board shared by the run's processes; "" = one process
    kafka        with brokers: events come from topics and actions go to topics, instead of `inputs` and `out`
    state        folder in which the state survives; "" = nowhere
    epoch_ms     time between two checkpoints
    log          the decision log: "complete" with every candidate's numbers, "sampled" with those of a share of the
                 decisions (`sample_share`), "off": there is none
    log_format   of files: "arrow", a stream; "parquet", which the stream becomes when the run has ended
    erase_within_ms  what was given up or erased is in no file of the state any more after so long
    """

    inputs: tuple[str, ...] = ()
    dataset: str = ""
    interleave: bool = False
    live: bool = False
    out: str = "out"
    policies: tuple[str, ...] = ()
    native: bool = True
    currency: str = "EUR"
    timezone: str = "UTC"
    tables: dict[str, str] = {}
    batch_rows: int = limits.BATCH_ROWS_DEFAULT
    arrival_ms: int = 0
    shards: int = limits.SHARDS_DEFAULT
    lateness_ms: int = limits.LATENESS_MS_DEFAULT
    retention_ms: int = limits.RETENTION_MS_DEFAULT
    rate_per_minute_max: int = limits.RATE_EVENTS_PER_MINUTE_MAX
    quarantine_ms: int = limits.QUARANTINE_MS
    log: LogMode = "sampled"
    log_format: LogFormat = "arrow"
    sample_share: float = limits.SAMPLE_SHARE_DEFAULT
    customers_per_shard_max: int = limits.CUSTOMERS_PER_SHARD_MAX
    pace_path: str = ""
    kafka: KafkaSettings = KafkaSettings()
    state: str = ""
    epoch_ms: int = limits.EPOCH_MS_DEFAULT
    erase_within_ms: int = limits.ERASE_WITHIN_MS_DEFAULT

    @property
    def is_live(self) -> bool:
        """Whether the events happen now: what comes from a broker always does."""
        return self.live or bool(self.kafka.brokers)

    @property
    def is_logged(self) -> bool:
        """Whether there is a decision log."""
        return self.log != "off"

    @property
    def numbers_share(self) -> float:
        """The share of decisions that are logged with every candidate's numbers."""
        return {"off": 0.0, "sampled": self.sample_share, "complete": 1.0}[self.log]

    def engine(self) -> EngineSettings:
        """The engine's part."""
        return EngineSettings(
            secret=secret(),
            shards=self.shards,
            lateness_ms=self.lateness_ms,
            retention_ms=self.retention_ms,
            rate_per_minute_max=self.rate_per_minute_max,
            quarantine_ms=self.quarantine_ms,
            sample_share=self.numbers_share,
            customers_per_shard_max=self.customers_per_shard_max,
        )


def check(settings: Settings) -> None:
    """Raise SettingsError for values that no run can have."""
    bounds = {
        "shards": (1, limits.SHARDS_MAX),
        "batch_rows": (1, 1 << 20),
        "lateness_ms": (0, limits.WINDOW_MS_MAX),
        "retention_ms": (limits.DAY_MS, limits.WINDOW_MS_MAX),
        "rate_per_minute_max": (1, 1_000_000),
        "quarantine_ms": (0, limits.WINDOW_MS_MAX),
        "sample_share": (0, 1),
        "epoch_ms": (10, 10 * limits.MINUTE_MS),
        "erase_within_ms": (limits.ERASE_WITHIN_MS_MIN, limits.WINDOW_MS_MAX),
        "customers_per_shard_max": (1, limits.CUSTOMERS_PER_SHARD_MAX),
    }
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise SettingsError(_STEP, f"{name} is {value}", f"it must be from {least} to {most}")
    zone_number(settings.timezone)
    for channel in settings.kafka.delivery:
        if channel not in CHANNELS:
            raise SettingsError(
                _STEP, f'kafka.delivery has "{channel}", which is no channel', did_you_mean(channel, CHANNELS)
            )
    if settings.kafka.brokers and not settings.state:
        raise SettingsError(
            _STEP, "events come from Kafka, and no state folder is given", "name one: --state DIR"
        )
    if settings.log_format == "parquet" and (settings.kafka.brokers or not settings.is_logged):
        there = "the decision log goes to a topic" if settings.is_logged else "there is no decision log"
        raise SettingsError(_STEP, f'log_format is "parquet", but {there}', "leave it out")
    if settings.live and settings.dataset:
        raise SettingsError(
            _STEP, f'the data set "{settings.dataset}" is not live', "leave live out: it is a replay"
        )


def secret() -> bytes:
    """The deployment's secret: 32 hexadecimal digits from SEGUE_SECRET or the file that SEGUE_SECRET_FILE names.

    Without either a well-known one is used: fit for trying out, not for real customers' identifiers.
    """
    text = os.environ.get(SECRET_VARIABLE)
    path = os.environ.get(SECRET_FILE_VARIABLE)
    if text is None and path:
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise SettingsError(
                "read the secret",
                f"{SECRET_FILE_VARIABLE} can't be read ({error.strerror})",
                "check the path",
            ) from error
    if text is None:
        return _EMBEDDED_SECRET
    try:
        value = bytes.fromhex(text.strip())
    except ValueError:
        value = b""
    if len(value) != SECRET_BYTES:
        raise SettingsError(
            "read the secret", "it is not 32 hexadecimal digits", "make one with: openssl rand -hex 16"
        )
    return value


def save_settings(settings: Settings, path: Path) -> None:
    """Write settings for the processes of a run."""
    path.write_bytes(msgspec.json.encode(settings))


def load_settings() -> Settings:
    """The settings in the file that SEGUE_SETTINGS names."""
    path = os.environ.get(SETTINGS_VARIABLE)
    if not path:
        raise SettingsError(
            _STEP, f"{SETTINGS_VARIABLE} is not set", "it names a JSON file: see README, Settings"
        )
    try:
        settings = msgspec.json.decode(Path(path).read_bytes(), type=Settings)
    except OSError as error:
        raise SettingsError(_STEP, f'"{path}" can\'t be read ({error.strerror})', "check the path") from error
    except msgspec.ValidationError as error:
        raise SettingsError(_STEP, f'"{path}": {error}', "see README, Settings") from error
    except msgspec.DecodeError as error:
        raise SettingsError(_STEP, f'"{path}" is not JSON: {error}', "see README, Settings") from error
    check(settings)
    if settings.arrival_ms == 0:
        return msgspec.structs.replace(settings, arrival_ms=WALL_CLOCK.now_ms())
    return settings
