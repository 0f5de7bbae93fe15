"""Text of the command line → values, with an answer where it is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from segue.errors import SettingsError, did_you_mean
from segue.events.names import CHANNELS
from segue.kafka.settings import Delivery, Form, InputTopic, TableName
from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS, SAMPLE_SHARE_DEFAULT
from segue.settings import LogFormat, LogMode

_UNITS_MS = {"ms": 1, "s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"(\d{1,15})(ms|s|m|h|d)")
_STEP = "read the arguments"


def duration_ms(option: str, text: str) -> int:
    """Milliseconds of "500ms", "30s", "5m", "2h" or "400d"."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise SettingsError(
            _STEP, f'{option}: "{text}" is no duration', "a number and a unit: 500ms 30s 5m 2h 400d"
        )
    return int(found[1]) * _UNITS_MS[found[2]]


def need_inputs(inputs: Sequence[str], out: str, brokers: str, topics: Sequence[str]) -> None:
    """Raise SettingsError unless what comes in and where it goes is said: files and a folder, or brokers and topics."""
    if not brokers:
        if topics:
            raise SettingsError(_STEP, "--topic without --brokers", "say where it is: --brokers HOST:PORT")
        if not inputs:
            raise SettingsError(_STEP, "no input was given", "files, folders or -; or --brokers and --topic")
        if not out:
            raise SettingsError(_STEP, "no output folder was given", "name one: --out DIR")
        return
    if inputs:
        found = f'"{inputs[0]}" and --brokers: events come from files or from topics'
        raise SettingsError(_STEP, found, "leave one of them out")
    if out:
        raise SettingsError(_STEP, "--out and --brokers: what is decided goes to topics", "leave --out out")
    if not topics:
        raise SettingsError(_STEP, "--brokers without a topic to read", "name it: --topic NAME")


def input_topics(texts: Sequence[str]) -> tuple[InputTopic, ...]:
    """Topics of "orders" and "web:cloudevents"."""
    topics = []
    forms: tuple[Form, ...] = get_args(Form)
    for text in texts:
        name, _, form = text.partition(":")
        found = next((each for each in forms if each == (form or "auto")), None)
        if not name or found is None:
            hint = did_you_mean(form, forms) if name else "NAME or NAME:FORM"
            raise SettingsError(_STEP, f'--topic: "{text}" is not NAME[:FORM]', hint)
        topics.append(InputTopic(name, found))
    return tuple(topics)


TOPIC = "topic:"  # in place of a table's file


def table_topics(files: dict[str, str], brokers: str) -> tuple[dict[str, str], tuple[InputTopic, ...]]:
    """What `named_files` gave: the files, and the topics of rows (catalogue=topic:products)."""
    left: dict[str, str] = {}
    topics = []
    tables: tuple[TableName, ...] = get_args(TableName)
    for name, path in files.items():
        if not path.startswith(TOPIC):
            left[name] = path
            continue
        table = next((each for each in tables if each and each == name), None)
        if table is None or path == TOPIC:
            hint = did_you_mean(name, tables[1:]) if table is None else f"--table {name}=topic:NAME"
            raise SettingsError(_STEP, f'--table: "{name}={path}" is no table and its topic', hint)
        if not brokers:
            found = f"--table {name}={path} without --brokers"
            raise SettingsError(_STEP, found, "say where it is: --brokers HOST:PORT")
        topics.append(InputTopic(path.removeprefix(TOPIC), table=table))
    return left, tuple(topics)


def deliveries(texts: Sequence[str]) -> dict[str, Delivery]:
    """{"web": "transactional"} of "web=transactional"; each channel once."""
    found: dict[str, Delivery] = {}
    known: tuple[Delivery, ...] = get_args(Delivery)
    for text in texts:
        channel, _, told = text.partition("=")
        how = next((each for each in known if each == told), None)
        if channel not in CHANNELS or how is None:
            hint = did_you_mean(told, known) if channel in CHANNELS else did_you_mean(channel, CHANNELS)
            raise SettingsError(_STEP, f'--delivery: "{text}" is not CHANNEL=HOW', hint)
        if channel in found:
            raise SettingsError(_STEP, f'--delivery: "{channel}" is given twice', "a channel has one")
        found[channel] = how
    return found


def log_settings(text: str) -> tuple[LogMode, float]:
    """(Settings.log, Settings.sample_share) of "off", "complete", "sampled" or "sampled=0.05"."""
    name, given, share = text.partition("=")
    modes: tuple[LogMode, ...] = get_args(LogMode)
    mode = next((each for each in modes if each == name), None)
    if mode is None or (given and mode != "sampled"):
        raise SettingsError(
            _STEP, f'--log: "{text}" is not complete, off or sampled[=SHARE]', did_you_mean(name, modes)
        )
    if not given:
        return mode, SAMPLE_SHARE_DEFAULT
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SettingsError(
            _STEP, f'--log: "{share}" is no share of the decisions', "from 0 to 1: sampled=0.05"
        )
    return mode, value


def format_of_log(text: str) -> LogFormat:
    """Settings.log_format of "arrow" or "parquet"."""
    known: tuple[LogFormat, ...] = get_args(LogFormat)
    for each in known:
        if each == text:
            return each
    raise SettingsError(_STEP, f'--log-format: there is no "{text}"', did_you_mean(text, known))


def named_files(option: str, texts: Sequence[str]) -> dict[str, str]:
    """{"catalogue": "products.parquet"} of "catalogue=products.parquet"; each name once."""
    files: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name.strip() or not path.strip():
            raise SettingsError(
                _STEP, f'{option}: "{text}" is not NAME=FILE', f"{option} catalogue=products.csv"
            )
        if name.strip() in files:
            raise SettingsError(
                _STEP, f'{option}: "{name.strip()}" is given twice', "put its rows into one file"
            )
        files[name.strip()] = path.strip()
    return files


def time_ms(option: str, text: str) -> int:
    """Milliseconds since 1970 of a date or an ISO 8601 time; without an offset it is UTC."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(
            _STEP, f'{option}: "{text}" is no time', "write 2026-03-02 or 2026-03-02T08:00:00Z"
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(time.timestamp() * 1_000)
