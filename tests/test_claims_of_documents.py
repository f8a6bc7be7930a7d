"""What the documents say of methods: each sentence that compares is made from a record, or stands below with its reason."""

from __future__ import annotations

import re

import pytest

from documents import CLAIM, ROOT, TABLE, WITH_RESULTS, with_claims
from tenth.methods.registry import METHODS

COMPARES = re.compile(
    r"""\b(
      (?<!at\ )(most|least) | (bett|high|low|near|bigg|strong|weak|fast|slow)er | (high|low|near|bigg|strong|fast|slow)est
    | worse|worst|best(?!\ of\b) | (more|less)\ (similar|diverse|like|alike|accurate)
    | differs? | significant(ly)? | superior | inferior
    | beats? | outperforms? | surpass(es)? | wins? | loses? | gains? | lost | equals? | as\ (good|much|similar)\ as
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
# Where a method is meant: in code, or by what the documents call it.
NAMES_A_METHOD = re.compile(
    "|".join([*(rf"`{re.escape(name)}`" for name in METHODS), r"\bthe (consensus|maximum|combination)\b"])
)
# Sentences that compare, but no methods by a record: the words with which they begin, and what they are instead.
SAID = {
    "README.md": set(),
    "docs/results.md": {"A method is called higher or lower than another only where": "the rule itself"},
    "docs/choose.md": {
        "it starts as the consensus and departs from it only where held-out people gain": "how it is trained",
        "GPU memory, least": "a column of memory",
        "gives the model the best few photos themselves": "what the method does",
        "gated, most not for commercial use": "licences",
        "A photo without a face comes last": "a rule of the method",
        "those that agree most (consensus)": "how photos are chosen",
        "Its difference in nearness to random photos": "how photos are chosen",
        "Whether images gain by it is not known": "says that nothing is known",
        "## Faster": "a heading, seconds",
    },
}


def sentences(text: str) -> list[str]:
    """Sentences and cells of a document, without code blocks, tables of results and claims."""
    text = re.sub(r"^ *```.*?^ *```$", "", TABLE.sub("", CLAIM.sub("", text)), flags=re.DOTALL | re.MULTILINE)
    found = []
    for block in re.split(r"\n\s*\n|\n(?=[-|#*] ?)", text):
        cells = block.split("|") if block.startswith("|") else [block]
        for cell in cells:
            found += re.split(r"(?<=[.:;])\s", " ".join(cell.split()))
    return [sentence.strip() for sentence in found if sentence.strip()]


def comparing(text: str, *, naming: bool = False) -> list[str]:
    """Sentences that compare; naming: only those that name a method."""
    return [each for each in sentences(text) if COMPARES.search(each) and (not naming or NAMES_A_METHOD.search(each))]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_claims_are_the_records(name: str) -> None:
    assert CLAIM.search(text_of(name))
    assert text_of(name) == with_claims(text_of(name)), f"write {name} anew: python tests/documents.py"


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_every_sentence_that_compares_is_a_claim_of_a_record(name: str) -> None:
    left = [each for each in comparing(text_of(name)) if not any(each.startswith(said) for said in SAID[name])]
    assert not left, "\n".join([f"{name}: make these claims (tests/documents.py), or say without comparing:", *left])


@pytest.mark.parametrize("name", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
def test_other_documents_compare_no_methods(name: str) -> None:
    if name in WITH_RESULTS or name == "docs/log.md":  # the log is dated, and says what was tried
        return
    left = comparing(text_of(name), naming=True)
    assert not left, "\n".join([f"{name}: say it in docs/results.md, as a claim of a record:", *left])


def test_what_is_excepted_is_there() -> None:
    for name, said in SAID.items():
        found = comparing(text_of(name))
        stale = [begin for begin in said if not any(sentence.startswith(begin) for sentence in found)]
        assert stale == [], name


@pytest.mark.parametrize(
    "sentence",
    [
        "The consensus is better than one photo.",
        "`dreambooth` has the highest score.",
        "| most similar | `dreambooth` |",
        "- It does not differ from the others.",
        "both together give the most",
        "Nothing beats `ip-adapter-set`; it wins.",
    ],
)
def test_a_sentence_that_compares_is_found(sentence: str) -> None:
    assert comparing(f"# Results\n\n{sentence}\n")


def test_a_claim_is_written_from_the_record_whatever_stood_there() -> None:
    names = "dreambooth+ip-adapter-consensus ip-adapter-consensus"
    text = f"<!-- claim comparison-test {names} -->`a` beats `b`<!-- end -->"
    assert "has a higher ID similarity than `ip-adapter-consensus`: +0.035" in with_claims(text)
    of_attributes = text.replace("-test", "-test:attributes")
    assert "has a higher ID similarity than `ip-adapter-consensus`: +0.039" in with_claims(of_attributes)
    assert comparing(text) == comparing(of_attributes) == []
    with pytest.raises(ValueError, match="the record is of the methods ip-adapter, "):
        with_claims("<!-- claim quick-test dreambooth --><!-- end -->")
