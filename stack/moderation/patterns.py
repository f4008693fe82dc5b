"""Tier 1: the few phrases that no single word gives away. Each pattern says what it is after, and is short-sighted by
design: what it misses is the classifier's work, what it finds should be worth a look.

Searched in normalised text, without regard to case. Every pattern is linear: no nested repetition.
"""

import re
from dataclasses import dataclass

from stack.moderation.categories import Category
from stack.moderation.lists import Hit


@dataclass(frozen=True)
class Pattern:
    """One pattern, with what it is after."""

    name: str
    category: Category
    severity: float
    """1 to 3, as in the lists"""
    about: str
    regex: re.Pattern[str]


def _pattern(name: str, category: Category, severity: float, about: str, regex: str) -> Pattern:
    return Pattern(name, category, severity, about, re.compile(regex, re.IGNORECASE))


_WILL = r"\b(?:i'?m going to|i am going to|i'?m gonna|i will|i'?ll|we will|we'?ll|we'?re going to|imma|gonna)\s"
_HURT = r"(?:kill|murder|shoot|stab|rape|strangle|behead|burn|hang|beat|slit|bomb|ram|hurt)"

PATTERNS: tuple[Pattern, ...] = (
    _pattern(
        "threat",
        "harassment/threatening",
        2.2,
        "somebody says in the first person that they will hurt the one who reads",
        _WILL + r"(?:\w+\s){0,2}" + _HURT + r"\s(?:you|u|ya|your|ur)\b",
    ),
    _pattern(
        "go-die",
        "harassment",
        2.6,
        "the reader is told to die or to kill themselves",
        r"\b(?:go|please|just|should|and)\s(?:die\b(?!\s(?:hard|in\s(?:peace|his|her|their|my)))|kill\s(?:yourself|urself|yourselves))|\bkys\b",
    ),
    _pattern(
        "unwanted-group",
        "hate/threatening",
        2.6,
        "a group of people is said to deserve death",
        r"\b(?:kill|gas|exterminate|hang|burn|shoot)\s(?:all|every)\s(?:of\s)?(?:the\s|those\s|these\s)?"
        r"(?:jews?|muslims?|christians?|blacks?|whites?|gays?|immigrants?|women|men|mexicans?|asians?|arabs?)\b",
    ),
    _pattern(
        "self-harm",
        "self-harm/intent",
        2.2,
        "somebody says that they want to end their life or hurt themselves",
        r"\b(?:i\s(?:want|am going|plan|intend|have decided)\sto|i'?m going to|i wanna|i'?m gonna)\s"
        r"(?:die\b|kill myself|end my life|end it all|hurt myself|cut myself)|\bi\s(?:am|feel)\ssuicidal\b",
    ),
    _pattern(
        "self-harm-how",
        "self-harm/instructions",
        2.4,
        "somebody asks how to end their life without pain or notice",
        r"\b(?:how|ways?|best way|easiest way)\s(?:can i|do i|should i|to)\s(?:kill myself|commit suicide|end my life|"
        r"overdose)\b",
    ),
    _pattern(
        "address",
        "harassment",
        2.2,
        "somebody's place of living is told with a call to do something about it",
        r"\b(?:s?he|they|this (?:guy|woman|man|girl))\sliv(?:es?|ing)\sat\s\d{1,5}\s\w+|"
        r"\bhere'?s\s(?:his|her|their)\s(?:home\s)?(?:address|phone number)\b",
    ),
    _pattern(
        "weapon-how",
        "illicit/violent",
        2.2,
        "instructions for a weapon or explosive are asked for",
        r"\b(?:how (?:to|do i|can i)|instructions (?:for|on)|(?:guide|steps) to)\s(?:\w+\s){0,2}(?:mak|build|assembl)"
        r"(?:e|ing)\s(?:\w+\s){0,2}(?:(?<!bath )bombs?|explosives?|napalm|nerve agents?|sarin|ghost guns?)\b",
    ),
    _pattern(
        "drug-how",
        "illicit",
        2.0,
        "instructions for making or selling hard drugs are asked for",
        r"\b(?:how (?:to|do i|can i)|instructions (?:for|on)|recipe for)\s(?:\w+\s){0,3}"
        r"(?:meth|methamphetamine|lsd|heroin|fentanyl|mdma|crack cocaine)\b",
    ),
    _pattern(
        "minors",
        "sexual/minors",
        3.0,
        "sex and a child in one short phrase",
        r"\b(?:sex with|naked|nudes?|porn|horny|sexy|fuck(?:ing)?)\s(?:\w+\s){0,3}"
        r"(?:child|children|kids?|minors?|toddlers?|preteens?|little (?:girls?|boys?)|underage)\b|"
        r"\bchild porn\w*|\blolicon\b",
    ),
)  # fmt: skip


def find_patterns(text: str) -> list[Hit]:
    """The first place of each pattern in normalised `text`, in the order of PATTERNS."""
    hits: list[Hit] = []
    for pattern in PATTERNS:
        if found := pattern.regex.search(text):
            hits.append(Hit(pattern.name, pattern.category, pattern.severity, found.start(), found.end(), "patterns"))
    return hits
