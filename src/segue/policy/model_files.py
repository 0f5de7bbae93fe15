"""A model's weights from a file beside the policy: JSON to read, Parquet for many offers and features.

Law: an offer's bias and weights are those of the file's version that the policy names; a file whose name, version,
features or offers are not those of the policy is refused, and the message says every difference. What comes of it is
the same as if the numbers stood in the policy.

    {"model": "uptake", "version": "2026-03-01", "features": ["views"],
     "offers": {"voucher-10": {"bias": -2.0, "weights": {"views": 0.8}}}}

In Parquet a row is an offer: the columns `offer`, `bias`, and one of each feature; the metadata of its schema has
`segue.model` and `segue.version`. If the policy names a folder, the file in it that is called like the version is read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import pyarrow as pa

from segue.errors import did_you_mean
from segue.limits import MODEL_BYTES_MAX
from segue.policy import model
from segue.policy.gather import Source

FORMS = (".json", ".parquet")
_KEYS = ("offer", "bias")  # columns of Parquet that are no features
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class OfferWeights(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of one offer; a feature that is not named weighs nothing."""

    bias: model.Number = 0.0
    weights: dict[str, model.Number] = {}


class ModelFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a model's file says."""

    model: model.Name
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    features: list[str]
    offers: dict[str, OfferWeights]


def with_model_file(source: Source, journey: model.Journey, path: str) -> tuple[model.Journey, str]:
    """The journey with the numbers of its model's file in its offers, and the SHA-256 of the file's bytes in hex; as it
    is, and "", if its model names no file. `path`: of the journey in the policy."""
    asked = journey.model
    if asked is None:
        return journey, ""
    if asked.file is None:
        if asked.version is None:
            source.fail(f"{path}.model", "the field `version` is missing", 'version = "1"')
        return journey, ""
    at = f"{path}.model.file"
    for i, offer in enumerate(journey.offers):
        for name in ("bias", "weights"):
            if getattr(offer, name):
                source.fail(
                    f"{path}.offers[{i}].{name}",
                    f"the model's numbers stand in {asked.file}",
                    "leave it out here, or `file` in [journeys.model]",
                )
    file = _found(source, at, asked)
    data = _bytes(source, at, file)
    told = _read(source, at, file, data)
    if told.model != asked.name:
        source.fail(
            at,
            f'{file} is of the model "{told.model}", the policy asks for "{asked.name}"',
            "name another file",
        )
    if asked.version not in (None, told.version):
        source.fail(
            at,
            f'{file} is version "{told.version}", the policy asks for "{asked.version}"',
            "name its version, or another file",
        )
    _compare(source, at, file, "feature", [feature.name for feature in asked.features], told.features)
    _compare(source, at, file, "offer", [offer.id for offer in journey.offers], list(told.offers))
    for identifier, of in told.offers.items():
        for name in of.weights:
            if name not in told.features:
                source.fail(
                    at,
                    f'{file}: the offer "{identifier}" has a weight for "{name}", which is not among its features',
                    did_you_mean(name, told.features),
                )
    offers = [
        msgspec.structs.replace(offer, bias=of.bias, weights=of.weights)
        for offer in journey.offers
        for of in (told.offers[offer.id],)
    ]
    filled = msgspec.structs.replace(asked, version=told.version)
    return msgspec.structs.replace(journey, offers=offers, model=filled), hashlib.sha256(data).hexdigest()


def _found(source: Source, at: str, asked: model.Model) -> Path:
    """The file that is meant: of a folder, the one of the version."""
    assert asked.file is not None
    path = source.path.parent / asked.file
    if path.is_dir():
        versions = sorted(file.stem for file in path.iterdir() if file.suffix in FORMS)
        known = did_you_mean(asked.version or "", versions) if versions else "put VERSION.json there"
        if asked.version is None:
            source.fail(at, f"{path} is a folder of versions, and `version` names none", known)
        files = [path / f"{asked.version}{form}" for form in FORMS if _VERSION.fullmatch(asked.version)]
        there = [file for file in files if file.is_file()]
        if not there:
            source.fail(at, f'{path} has no version "{asked.version}"', known)
        if len(there) > 1:
            source.fail(at, f'{path} has version "{asked.version}" twice', "keep one of JSON and Parquet")
        return there[0]
    if path.suffix not in FORMS:
        source.fail(
            at, f'"{asked.file}" is neither JSON nor Parquet', "uptake.json, uptake.parquet or a folder"
        )
    if not path.is_file():
        near = [file.name for file in path.parent.glob("*") if file.suffix in FORMS]
        source.fail(
            at, f"there is no file {path}", did_you_mean(path.name, near) if near else "check the path"
        )
    return path


def _bytes(source: Source, at: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MODEL_BYTES_MAX + 1)
    except OSError as error:
        source.fail(at, f"{file}: {error.strerror}", "check the file's permissions")
    if len(data) > MODEL_BYTES_MAX:
        source.fail(at, f"{file} is larger than {MODEL_BYTES_MAX} bytes", "leave out what no policy asks for")
    return data


def _read(source: Source, at: str, file: Path, data: bytes) -> ModelFile:
    def fail(message: str, hint: str) -> NoReturn:
        source.fail(at, f"{file}: {message}", hint)

    try:
        if file.suffix == ".json":
            return msgspec.json.decode(data, type=ModelFile)
        import pyarrow.parquet as pq

        return msgspec.convert(_of_table(pq.read_table(pa.BufferReader(data))), ModelFile)
    except msgspec.ValidationError as error:
        fail(str(error), "see LANGUAGE.md, “Models from files”")
    except msgspec.DecodeError as error:
        fail(f"this is not JSON: {error}", "numbers are finite, text stands in quotes")
    except (pa.ArrowException, KeyError, ValueError) as error:
        fail(
            f"this is not a model in Parquet: {error}",
            "columns offer, bias and one of each feature; its metadata",
        )


def _of_table(table: pa.Table) -> dict[str, object]:
    """A Parquet file's table as JSON would say it."""
    metadata = table.schema.metadata or {}
    for key in ("segue.model", "segue.version"):
        if key.encode() not in metadata:
            raise ValueError(f"the schema's metadata lacks {key}")
    for key in _KEYS:
        if key not in table.column_names:
            raise ValueError(f"there is no column {key}")
    features = [name for name in table.column_names if name not in _KEYS]
    columns = table.to_pydict()
    if len(set(columns["offer"])) != table.num_rows:
        raise ValueError("an offer stands in it twice")
    offers = {
        offer: {"bias": columns["bias"][row], "weights": {name: columns[name][row] for name in features}}
        for row, offer in enumerate(columns["offer"])
    }
    return {
        "model": metadata[b"segue.model"].decode(),
        "version": metadata[b"segue.version"].decode(),
        "features": features,
        "offers": offers,
    }


def _compare(source: Source, at: str, file: Path, what: str, wanted: list[str], told: list[str]) -> None:
    """Refuse a file that has not just what the policy has."""
    missing = [name for name in wanted if name not in told]
    unknown = [name for name in told if name not in wanted]
    twice = sorted({name for name in told if told.count(name) > 1})
    said = [
        f"{has} {what}{'s' if len(names) > 1 else ''} {_named(names)}"
        for has, names in (
            ("lacks the policy's", missing),
            ("has the unknown", unknown),
            ("has twice the", twice),
        )
        if names
    ]
    if not said:
        return
    if missing and unknown:
        hint = did_you_mean(unknown[0], missing)
    elif unknown:
        hint = f"the policy may name it, or the file leave it out; {did_you_mean(unknown[0], wanted)}"
    else:
        hint = f"a version of the model that was made for this policy has exactly its {what}s"
    source.fail(at, f"{file} {' and '.join(said)}", hint)


def _named(names: list[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names[:12])
    return f"{listed} and {len(names) - 12} more" if len(names) > 12 else listed
