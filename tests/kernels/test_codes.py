"""Codes against a naive twin, and the twin against published examples of Crockford's base32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.vouchers.codes import near, printed, read
from segue_kernels.codes import ALPHABET, CODE_MASK, MISTYPED, NEIGHBOURS_MAX, NOT_A_CODE, attempted_code
from segue_kernels.jit import kernel
from tests.kernels.drivers import quick
from tests.kernels.test_siphash import naive_siphash
from tests.vouchers import naive_codes

CODES = st.integers(0, CODE_MASK)
WORD = st.integers(-(2**63), 2**63 - 1)
PROSE = {"mistyped": MISTYPED, "no code": NOT_A_CODE}


def expected(text: str) -> int:
    found = naive_codes.read(text)
    return PROSE[found] if isinstance(found, str) else found


@pytest.mark.parametrize(("number", "text"), [(42, "1A5"), (1234, "16JD")])
def test_the_twin_gives_the_published_examples(number: int, text: str) -> None:
    assert naive_codes.with_check(number) == text
    assert naive_codes.canonical("La5") == "1A5"


@quick(200)
@given(CODES)
def test_a_code_is_printed_as_the_twin_prints_it_and_read_back(code: int) -> None:
    (text,) = printed(np.array([code]))
    assert text == naive_codes.printed(code)
    worn = text.lower().replace("0", "o").replace("1", "l").replace("-", " ")
    assert read([text, text.replace("-", ""), worn, f" {text}"]).tolist() == [code] * 4


def test_what_is_no_code_of_60_bits_is_not_printed() -> None:
    for code in (-1, CODE_MASK + 1):
        with pytest.raises(ValueError, match="60 bits"):
            printed(np.array([code]))


@quick(300)
@given(st.text(st.sampled_from(ALPHABET + "oilu- !é"), max_size=18))
def test_any_text_is_read_as_the_twin_reads_it(text: str) -> None:
    assert read([text]).tolist() == [expected(text)]


@quick(200)
@given(st.binary(max_size=80))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    (found,) = read([data]).tolist()
    assert found in (MISTYPED, NOT_A_CODE) or naive_codes.read(data.decode("ascii")) == found


def test_a_huge_text_is_no_code() -> None:
    assert read(["0" * 1_000_000, "-" * 60 + "16JD0", ""]).tolist() == [NOT_A_CODE] * 3


@quick(200)
@given(CODES, st.integers(0, 12), st.sampled_from(naive_codes.SYMBOLS))
def test_one_wrong_character_never_fits(code: int, place: int, symbol: str) -> None:
    text = naive_codes.with_check(code, 12)
    wrong = text[:place] + symbol + text[place + 1 :]
    assert read([wrong]).tolist() == [code if wrong == text else MISTYPED]


@quick(200)
@given(CODES, st.integers(0, 11))
def test_two_neighbours_swapped_never_fit(code: int, place: int) -> None:
    text = naive_codes.with_check(code, 12)
    wrong = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    (found,) = read([wrong]).tolist()
    assert found == code if wrong == text else found in (MISTYPED, NOT_A_CODE)


@quick(100)
@given(CODES, st.integers(0, 12), st.sampled_from(naive_codes.SYMBOLS), st.sampled_from("rsdi"))
def test_neighbours_are_those_of_the_twin(code: int, place: int, symbol: str, mistake: str) -> None:
    text = naive_codes.with_check(code, 12)
    wrong = {
        "r": text[:place] + symbol + text[place + 1 :],
        "s": text[:place] + text[place : place + 2][::-1] + text[place + 2 :],
        "d": text[:place] + text[place + 1 :],
        "i": text[:place] + symbol + text[place:],
    }[mistake]
    found = near(wrong).tolist()
    assert len(found) == len(set(found)) < NEIGHBOURS_MAX
    assert set(found) == naive_codes.neighbours(wrong)
    if code % 37 < 32 and wrong != text:
        assert code in found or naive_codes.read(wrong) == "no code"


@kernel
def code_of(words: np.ndarray, attempt: int, k0: np.uint64, k1: np.uint64) -> int:
    return attempted_code(words[0], words[1], words[2], words[3], attempt, k0, k1, CODE_MASK)


@quick(100)
@given(st.lists(WORD, min_size=4, max_size=4), st.integers(0, 63), st.binary(min_size=16, max_size=16))
def test_a_code_is_the_keyed_function_of_campaign_decision_and_attempt(
    words: list[int], attempt: int, key: bytes
) -> None:
    k0, k1 = np.frombuffer(key, "<u8")
    message = b"".join(word.to_bytes(8, "little", signed=True) for word in [*words, attempt])
    code = naive_siphash(message, key, 1, 3, 128) & CODE_MASK
    found = int(code_of(np.array(words, np.int64), attempt, np.uint64(k0), np.uint64(k1)))
    assert found == (code if code % 37 < 32 and code else -1)
