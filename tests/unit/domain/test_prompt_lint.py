import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from domain.findings import FindingCode, PromptFinding, Severity
from domain.prompt_lint import lint
from domain.prompts import ConceptPrompt

DEMO = Path(__file__).parents[3] / "workers/engine/demo_sam3/tokenizer.json"


def texts(*prompts: str) -> list[ConceptPrompt]:
    return [ConceptPrompt(text) for text in prompts]


def codes(text: str) -> set[str]:
    return {finding.code for finding in lint(texts(text), None, text_tokens=None)}


def found(findings: list[PromptFinding], code: str) -> list[PromptFinding]:
    return [finding for finding in findings if finding.code == code]


@pytest.fixture(scope="module")
def demo() -> str:
    return DEMO.read_text()


def bpe() -> str:
    """As CLIP's: every letter is known, frequent words are one piece."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = letters + [letter + "</w>" for letter in letters]
    merges, word = [], "h"
    for letter in ["e", "l", "m", "e", "t</w>"]:
        merges.append((word, letter))
        word += letter
        vocabulary.append(word)
    vocabulary.append("<end>")
    ids = {token: number for number, token in enumerate(vocabulary)}
    model = models.BPE(ids, merges, unk_token="<end>", end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str()


@pytest.mark.parametrize(
    "text",
    [
        "person without helmet",
        "Without Helmet",
        "no helmet",
        "person, no helmet",
        "person with no-brand helmet",
        "not a dog",
        "non-metal part",
        "fruit except apples",
        "everything but not the sky",
        "person who isn't running",
        "person who isn’t running",
        "bottle w/o cap",
        "something other than a car",
    ],
)
def test_negation_is_a_warning(text: str) -> None:
    findings = found(lint(texts(text), None, text_tokens=None), "negation")
    assert [finding.severity for finding in findings] == [Severity.WARNING]
    assert "without helmet" in findings[0].message


@pytest.mark.parametrize(
    "text",
    [
        "forget-me-not",
        "no parking sign",
        "no-entry signs",
        "knot",
        "noodle",
        "notebook",
        "no. 5 jersey",
        "paint",
        "nonagon",
        "wireless mouse",
    ],
)
def test_words_that_only_look_like_negation_are_none(text: str) -> None:
    assert codes(text) == set()


@pytest.mark.parametrize(
    "text",
    ["cats and dogs", "cat, dog", "cat or dog", "cat/dog", "car; truck", "cat & dog", "car + van"],
)
def test_several_things_in_one_prompt_are_pointed_out(text: str) -> None:
    (finding,) = lint(texts(text), None, text_tokens=None)
    assert (finding.code, finding.severity) == (FindingCode.SEVERAL_THINGS, Severity.HINT)


@pytest.mark.parametrize(
    "text",
    ["a dog", "the dogs", "black and white cow", "cup w/ lid", "24/7 shop", "rock'n'roll poster"],
)
def test_articles_plurals_and_fixed_words_are_fine(text: str) -> None:
    assert codes(text) == set()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("find all red circles", "instruction"),
        ("Please segment the dog", "instruction"),
        ("where is the dog", "instruction"),
        ("a dog?", "instruction"),
        ("leftmost car", "picks_out"),
        ("dog on the left", "picks_out"),
        ("the biggest box", "picks_out"),
        ("安全帽", "not_english"),
        ("каска", "not_english"),
        ("a man in a blue shirt who is walking his dog", "long_description"),
    ],
)
def test_what_else_users_trip_over_is_a_hint(text: str, code: str) -> None:
    assert codes(text) == {code}
    assert all(one.severity == Severity.HINT for one in lint(texts(text), None, text_tokens=None))


def test_eight_words_are_not_long_and_accents_are_latin() -> None:
    assert codes("small café table with a round marble top") == set()


def test_the_networks_limit_counts_tokens_with_start_and_end(demo: str) -> None:
    prompts = texts("red " * 30, "red " * 31)
    (finding,) = found(lint(prompts, demo, text_tokens=32), "too_long")
    assert finding.prompt_index == 1
    assert finding.severity == Severity.WARNING
    assert finding.message.startswith("33 tokens")
    assert not found(lint(prompts, demo, text_tokens=None), "too_long")


def test_duplicates_are_what_the_network_reads_as_the_same(demo: str) -> None:
    prompts = texts("red circle", "star", "Red  Circle", "RED CIRCLE")
    findings = found(lint(prompts, demo, text_tokens=32), "duplicate")
    assert [(one.prompt_index, one.other_prompt_index) for one in findings] == [(2, 0), (3, 0)]
    assert "“red circle” and again as “Red  Circle”" in findings[0].message


def test_duplicates_of_one_class_are_said_to_be_found_twice_as_it(demo: str) -> None:
    prompts = [
        ConceptPrompt("red circle", class_name="x"),
        ConceptPrompt("RED CIRCLE", (), (), "x"),
    ]
    (finding,) = found(lint(prompts, demo, text_tokens=32), "duplicate")
    assert "twice as “x”" in finding.message


def test_two_words_that_the_model_does_not_know_are_the_same_to_it(demo: str) -> None:
    findings = lint(texts("dog", "red cat", "cat"), demo, text_tokens=32)
    (same,) = found(findings, "duplicate")
    assert (same.prompt_index, same.other_prompt_index) == (2, 0)
    unknown = found(findings, "unknown_word")
    assert [one.prompt_index for one in unknown] == [0, 1, 2]
    assert "“cat”" in unknown[1].message
    assert "red" not in unknown[1].message
    assert unknown[0].severity == Severity.HINT


def test_without_a_tokenizer_case_and_spaces_still_make_duplicates() -> None:
    prompts = texts("red circle", "Red  Circle", "circle")
    (finding,) = lint(prompts, None, text_tokens=None)
    assert (finding.code, finding.prompt_index) == (FindingCode.DUPLICATE, 1)


def test_a_word_in_many_pieces_is_a_hint_and_an_end_token_as_unknown_is_no_matter() -> None:
    findings = lint(texts("helmet", "hat", "Helmet xqzw hat"), bpe(), text_tokens=32)
    (finding,) = findings
    assert (finding.code, finding.prompt_index) == (FindingCode.RARE_WORD, 2)
    assert finding.severity == Severity.HINT
    assert "“xqzw”" in finding.message


def test_warnings_come_first(demo: str) -> None:
    findings = lint(texts("dog", "no dog"), demo, text_tokens=32)
    assert [one.code for one in findings] == ["negation", "unknown_word", "unknown_word"]


def test_messages_are_one_printable_line_of_bounded_length(demo: str) -> None:
    text = "x\x1b[2J\n" * 40 + " ".join(f"w{chr(97 + n)}" for n in range(26))
    findings = lint(texts(text, text.upper()), demo, text_tokens=32)
    assert found(findings, "duplicate")
    for finding in findings:
        assert finding.message.isprintable()
        assert len(finding.message) < 400


def test_a_finding_is_shown_by_rest_as_plain_json() -> None:
    (finding,) = lint(texts("no dog"), None, text_tokens=None)
    shown = json.loads(finding.model_dump_json())
    assert shown.pop("message")
    assert shown == {
        "severity": "warning",
        "code": "negation",
        "prompt_index": 0,
        "other_prompt_index": None,
    }
