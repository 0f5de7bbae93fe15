"""Policy files tested by their own examples (`segue test`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from segue.errors import PolicyError, did_you_mean
from segue.policy.compiled import CompiledPolicies
from segue.policy.examples import STEP, Example, check_names, read_examples
from segue.policy.load import SHIPPED, load_policies
from segue.testing.judge import judge
from segue.testing.play import play
from segue.testing.timeline import LEGEND, timeline


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One example. `hints` and `timeline` are empty when it passed."""

    file: str
    example: str
    passed: bool
    hints: list[str]
    timeline: list[str]


def play_files(paths: Sequence[str] | None, secret: bytes, currency: str = "EUR") -> list[Result]:
    """All examples of these files and folders, or of the shipped policies, in their order. Raises PolicyError."""
    files = [file for path in paths or [str(SHIPPED)] for file in _files(Path(path))]
    results = []
    for file in dict.fromkeys(files):
        loaded: dict[tuple[Path, ...], CompiledPolicies] = {}
        for i, example in enumerate(read_examples(file).examples):
            at = f"{file}: `$.examples[{i}]"
            together = (file, *(_beside(file, name, at) for name in example.with_))
            if together not in loaded:
                loaded[together] = load_policies(together, secret=secret, currency=currency, native=False)
            check_names(example, loaded[together], at)
            results.append(_played(file, example, loaded[together], secret, at))
        if not loaded:  # without examples it must load all the same
            load_policies([file], secret=secret, currency=currency, native=False)
    return results


def _files(path: Path) -> list[Path]:
    inside = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not inside:
        raise PolicyError(STEP, f"there is no *.toml file in the folder {path}", "name a policy file")
    return inside


def _beside(file: Path, name: str, at: str) -> Path:
    path = file.parent / name
    if not path.is_file():
        near = did_you_mean(name, [other.name for other in file.parent.glob("*.toml")])
        raise PolicyError(STEP, f'{at}.with`: there is no file "{name}" beside this one', near)
    return path


def _played(file: Path, example: Example, policies: CompiledPolicies, secret: bytes, at: str) -> Result:
    played = play(example, policies, secret, at)
    verdict = judge(example, played)
    return Result(
        file=str(file),
        example=example.name,
        passed=verdict.passed,
        hints=verdict.hints,
        timeline=[] if verdict.passed else timeline(example, played, verdict),
    )


def as_text(results: Sequence[Result]) -> str:
    """A line for each example, and below it what went wrong."""
    lines: list[str] = []
    for result in results:
        lines.append(f"{'pass' if result.passed else 'FAIL'}  {Path(result.file).name}: {result.example}")
        if not result.passed:
            lines += ["", *result.timeline, f"  {LEGEND}", ""]
            lines += [f"  hint: {hint}" for hint in result.hints]
            lines.append("")
    failed = sum(not result.passed for result in results)
    lines.append(
        f"{len(results)} example{'s' * (len(results) != 1)}, {failed} failed"
        if results
        else "no examples: add [[examples]] to a policy"
    )
    return "\n".join(lines)


def as_json_text(results: Sequence[Result]) -> str:
    """The results as a JSON object."""
    report: dict[str, Any] = {
        "examples": len(results),
        "failed": sum(not result.passed for result in results),
        "results": results,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
