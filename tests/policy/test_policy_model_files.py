"""Models from files: the same tables as numbers in the policy, versions, and what does not fit spelled out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.actions.log import log_schema
from segue.errors import PolicyError
from segue.policy import load, model_files
from segue.policy.check import check, render
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies

HEAD = """
policy = "p"
version = 1
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = "True"
[journeys.model]
name = "uptake"
features = [{ name = "price", value = "event.price" }, { name = "quantity", value = "event.quantity" }]
"""
FILE = 'file = "uptake.json"\n'
FEATURES = ("price", "quantity")
TOLD = {
    "model": "uptake",
    "version": "2",
    "features": ["price", "quantity"],
    "offers": {
        "a": {"bias": -1.5, "weights": {"price": 0.25}},
        "b": {"weights": {"quantity": -2, "price": 1e-3}},
    },
}


def offer(name: str, more: str = "") -> str:
    return f'[[journeys.offers]]\nid = "{name}"\nchannel = "web"\n{more}'


def load_in(folder: Path, text: str) -> CompiledPolicies:
    (folder / "p.toml").write_text(text, encoding="utf-8")
    return load_policies([folder / "p.toml"], secret=bytes(16), native=False)


def write_parquet(path: Path, told: dict[str, Any], metadata: bool = True) -> None:
    offers = told["offers"]
    columns: dict[str, list[Any]] = {
        "offer": list(offers),
        "bias": [of.get("bias", 0.0) for of in offers.values()],
    }
    for name in told["features"]:
        columns[name] = [float(of.get("weights", {}).get(name, 0.0)) for of in offers.values()]
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata(
            {"segue.model": told["model"], "segue.version": told["version"]}
        )
    pq.write_table(table, path)


NUMBER = st.floats(-1e9, 1e9) | st.sampled_from((0.0, -0.0, 1.0, 1e-300))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NUMBER, st.lists(NUMBER, min_size=2, max_size=2)), min_size=1, max_size=4))
def test_the_tables_are_those_of_numbers_in_the_policy(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[tuple[float, list[float]]]
) -> None:
    folder = tmp_path_factory.mktemp("models")
    offers = {
        f"o{i}": {"bias": bias, "weights": dict(zip(FEATURES, weights, strict=True))}
        for i, (bias, weights) in enumerate(numbers)
    }
    told = {"model": "uptake", "version": "7", "features": ["quantity", "price"], "offers": offers}
    (folder / "uptake.json").write_text(json.dumps(told))
    write_parquet(folder / "uptake.parquet", told)
    inline = "".join(
        offer(name, f"bias = {of['bias']}\nweights = {{ price = {w[0]}, quantity = {w[1]} }}\n")
        for (name, of), (_, w) in zip(offers.items(), numbers, strict=True)
    )
    bare = "".join(map(offer, offers))
    expected = load_in(folder, HEAD + 'version = "7"\n' + inline)
    digests = {expected.digest}
    for form in ("json", "parquet"):
        found = load_in(folder, f'{HEAD}file = "uptake.{form}"\n{bare}')
        assert found.offers_f.tobytes() == expected.offers_f.tobytes()
        assert found.weights.tobytes() == expected.weights.tobytes()
        assert found.journey_infos == expected.journey_infos  # with the version
        assert found.layout_digest == expected.layout_digest  # what is known of customers is kept
        digests.add(found.digest)
    assert len(digests) == 3


def test_another_version_is_another_policy_with_the_same_state(tmp_path: Path) -> None:
    folder = tmp_path / "uptake"
    folder.mkdir()
    (folder / "1.json").write_text(json.dumps({**TOLD, "version": "1"}))
    write_parquet(folder / "2.parquet", TOLD)
    text = HEAD + 'file = "uptake"\nversion = "{}"\n' + offer("a") + offer("b")
    one, two, back = (load_in(tmp_path, text.replace("{}", version)) for version in ("1", "2", "1"))
    assert [each.journey_infos[0].model_version for each in (one, two, back)] == ["1", "2", "1"]
    assert one.digest == back.digest != two.digest
    assert one.layout_digest == two.layout_digest
    np.testing.assert_array_equal(one.weights, two.weights)
    assert "\n  models\n    j: uptake version 2, 2 features\n" in render(check(two))
    told = json.loads(log_schema(two).metadata[b"segue.journeys"])
    assert [journey["model"] for journey in told] == ["uptake@2"]
    for version, message, hint in (
        ("3", 'has no version "3"', "known: 1, 2"),
        ("../x", 'has no version "../x"', "known"),
    ):
        with pytest.raises(PolicyError, match=re.escape(message)) as caught:
            load_in(tmp_path, text.replace("{}", version))
        assert hint in caught.value.hint
    (folder / "2.json").write_text(json.dumps(TOLD))
    with pytest.raises(PolicyError, match="twice"):
        load_in(tmp_path, text.replace("{}", "2"))
    with pytest.raises(PolicyError, match="`version` names none"):
        load_in(tmp_path, text.replace('version = "{}"\n', ""))


def changed(**fields: Any) -> str:
    return json.dumps({**TOLD, **fields})


BOTH = offer("a") + offer("b")
# fmt: off
WRONG = [
    # the policy behind its model's head, the file, part of the message, part of the hint
    (FILE + BOTH, changed(features=["price"]), 'lacks the policy\'s feature "quantity"', "exactly its features"),
    (FILE + BOTH, changed(features=["price", "quantity", "prise"]), 'has the unknown feature "prise"',
     'did you mean "price"?'),
    (FILE + BOTH, changed(features=["price", "quantities"]),
     'lacks the policy\'s feature "quantity" and has the unknown feature "quantities"', 'did you mean "quantity"?'),
    (FILE + BOTH, changed(features=["price", "quantity", "price"]), 'has twice the feature "price"', ""),
    (FILE + BOTH + offer("c"), changed(), 'lacks the policy\'s offer "c"', "exactly its offers"),
    (FILE + offer("a"), changed(), 'has the unknown offer "b"', "leave it out"),
    (FILE + BOTH, changed(offers={"a": {}, "b": {"weights": {"prices": 1}}}), 'a weight for "prices"',
     'did you mean "price"?'),
    (FILE + BOTH, changed(offers={"a": {}, "b": {"bias": 1e10}}), "<= 1000000000", ""),
    (FILE + BOTH, changed(offers={"a": {}, "b": {"bias": "x"}}), "Expected `float`, got `str` - at `$.offers", ""),
    (FILE + BOTH, changed(other=1), "unknown field `other`", ""),
    (FILE + BOTH, changed(model="other"), 'is of the model "other"', "another file"),
    (FILE + 'version = "1"\n' + BOTH, changed(), 'is version "2", the policy asks for "1"', ""),
    (FILE + BOTH, '{"model": NaN}', "not JSON", ""),
    (FILE + BOTH, "", "not JSON", ""),
    (FILE + offer("a", "bias = 1.0\n") + offer("b"), changed(), "stand in uptake.json", "leave it out"),
    (FILE + offer("a", "weights = { price = 1.0 }\n") + offer("b"), changed(), "stand in uptake.json", ""),
    ('file = "uptaek.json"\n' + BOTH, changed(), "there is no file", 'did you mean "uptake.json"?'),
    ('file = "uptake.onnx"\n' + BOTH, changed(), "neither JSON nor Parquet", ""),
    ('file = "other.parquet"\n' + BOTH, changed(), "not a model in Parquet", "columns offer, bias"),
    ('file = "bare.parquet"\n' + BOTH, changed(), "lacks segue.model", ""),
    (BOTH, changed(), "`version` is missing", ""),
]
# fmt: on


@pytest.mark.parametrize(("text", "file", "message", "hint"), WRONG)
def test_what_does_not_fit_is_spelled_out(
    tmp_path: Path, text: str, file: str, message: str, hint: str
) -> None:
    (tmp_path / "uptake.json").write_text(file)
    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    write_parquet(tmp_path / "bare.parquet", TOLD, metadata=False)
    with pytest.raises(PolicyError) as caught:
        load_in(tmp_path, HEAD + text)
    assert message in caught.value.found
    assert "p.toml: `$.journeys[0]" in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


def test_a_file_without_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MODEL_BYTES_MAX", 10)
    (tmp_path / "uptake.json").write_text(changed())
    with pytest.raises(PolicyError, match="larger than 10 bytes"):
        load_in(tmp_path, HEAD + FILE + BOTH)


def test_the_example_of_the_language_page(tmp_path: Path) -> None:
    page = (Path(load.__file__).parent / "LANGUAGE.md").read_text(encoding="utf-8")
    section = page.split("### Models from files")[1].split("\n##")[0]
    text, told = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    (tmp_path / "models/uptake").mkdir(parents=True)
    (tmp_path / "models/uptake/2026-03-01.json").write_text(told)
    compiled = load_in(
        tmp_path, 'policy = "p"\nversion = 1\n' + re.sub(r"^    ", "", text, flags=re.MULTILINE)
    )
    assert compiled.weights.tolist() == [0.8]
    assert compiled.journey_infos[0].model_version == "2026-03-01"
