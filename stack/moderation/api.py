"""The bodies of `POST /v1/moderations`: OpenAI's, and what this service adds to each result.

https://platform.openai.com/docs/api-reference/moderations
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from stack.moderation.categories import CATEGORIES, Category
from stack.moderation.config import Limits
from stack.moderation.policy import Decision, Tier, Verdict
from stack.telemetry.ids import Ids


class ModerationRequest(BaseModel):
    """What callers send. Unknown keys are refused: nobody shall trust a setting without effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | list[str]
    model: str | None = Field(
        None, max_length=128, description="taken for the sake of OpenAI's clients; the answer names what judged"
    )

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


def request_model(limits: Limits) -> type[ModerationRequest]:
    """The request with the configured bounds, so that the OpenAPI document tells them."""
    text = Annotated[str, Field(max_length=limits.characters)]
    texts = Annotated[list[text], Field(min_length=1, max_length=limits.inputs)]
    either = Annotated[
        Annotated[text, Tag("text")] | Annotated[texts, Tag("texts")],
        Discriminator(
            lambda value: {str: "text", list: "texts"}.get(type(value)),
            custom_error_type="input_kind",
            custom_error_message="expected a text or a list of texts",
        ),
        Field(description="one text or several, each judged by itself"),
    ]
    return create_model(
        "ModerationRequest",
        __base__=ModerationRequest,
        input=(either, ...),
    )


def _by_category(name: str, kind: Any, doc: str) -> type[BaseModel]:
    fields: dict[str, Any] = {
        category.replace("/", "_").replace("-", "_"): (kind, Field(alias=category)) for category in CATEGORIES
    }
    return create_model(name, __doc__=doc, **fields)


Categories = _by_category("Categories", bool, "True for the category of a text that is not allowed.")
Scores = _by_category("Scores", float, "From 0 to 1; 0 where nothing spoke for the category.")
AppliedInputTypes = _by_category(
    "AppliedInputTypes", list[Literal["text"]], "Empty for what no tier of this configuration can find."
)


class Cost(BaseModel):
    """What a decision took."""

    tiers: list[int] = Field(description="the tiers that worked on the text")
    judge_tokens: int = Field(description="tokens of the judge's prompt and answer")


class Result(BaseModel):
    """One text's."""

    flagged: bool = Field(description="true unless the text is allowed: a text that waits for people is flagged")
    categories: Categories  # type: ignore[valid-type]
    category_scores: Scores  # type: ignore[valid-type]
    category_applied_input_types: AppliedInputTypes  # type: ignore[valid-type]
    tier: Tier = Field(description="the one that ended it")
    decision: Decision
    score: float = Field(ge=0, le=1, description="of the last tier that gave one")
    reason: str
    degraded: bool = Field(description="decided without a tier that should have seen it")
    review_id: int | None = Field(description="the review item, where people decide")
    policy_version: str
    trace_id: str
    cost: Cost


class ModerationResponse(BaseModel):
    """The results, in the order of the texts."""

    id: str
    model: str = Field(description="what scored the texts in tier 2")
    results: list[Result]


def result(verdict: Verdict, policy_version: str, ids: Ids, found: frozenset[Category]) -> Result:
    """A verdict as it is answered. found: the categories that this configuration can find."""
    flagged = verdict.decision != "allow"
    own = verdict.category
    return Result(
        flagged=flagged,
        categories=Categories(**{name: flagged and name == own for name in CATEGORIES}),
        category_scores=Scores(**{name: verdict.score if name == own else 0.0 for name in CATEGORIES}),
        category_applied_input_types=AppliedInputTypes(
            **{name: ["text"] if name in found else [] for name in CATEGORIES}
        ),
        tier=verdict.tier,
        decision=verdict.decision,
        score=verdict.score,
        reason=verdict.reason,
        degraded=verdict.degraded,
        review_id=verdict.review_id,
        policy_version=policy_version,
        trace_id=ids.trace_id,
        cost=Cost(tiers=list(verdict.tiers), judge_tokens=verdict.judge_tokens),
    )
