"""Who may see what: the rule, and that nothing gets around it, whatever tenants, groups and documents there are."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rag_library import Library, document

from stack.rag.access import Access, AccessViolation, Identity, NoIdentity, Passage, identity
from stack.rag.prompt import PromptBuilder
from stack.rag.sources.collection import Document
from stack.rag.store import Rights

# ---- who calls


def test_an_identity_is_a_tenant_with_groups() -> None:
    assert identity(["riverside"], ["staff, board", "night-shift"]) == Identity(
        "riverside", frozenset({"staff", "board", "night-shift"})
    )
    assert identity(["riverside"], []) == Identity("riverside")


@pytest.mark.parametrize(
    ("tenants", "groups"),
    [
        ([], []),
        ([""], []),
        (["*"], []),
        (["Riverside"], []),
        (["riverside "], []),
        (["riverside", "hilltop"], []),
        (["riverside"], ["*"]),
        (["riverside"], ["staff;board"]),
        (["riverside"], [",".join(f"g{n}" for n in range(65))]),
    ],
)
def test_what_is_no_clear_identity_is_none(tenants: list[str], groups: list[str]) -> None:
    with pytest.raises(NoIdentity):
        identity(tenants, groups)


@pytest.mark.parametrize(
    ("tenant", "groups", "sees"),
    [
        ("*", set(), True),
        ("riverside", set(), True),
        ("hilltop", set(), False),
        ("*", {"staff"}, True),
        ("*", {"board"}, False),
        ("riverside", {"board", "staff"}, True),
        ("hilltop", {"staff"}, False),
    ],
)
def test_the_rule(tenant: str, groups: set[str], sees: bool) -> None:
    assert Identity("riverside", frozenset({"staff"})).may_see(tenant, frozenset(groups)) is sees


# ---- the way to the text


def access_to(*documents: Document) -> Access:
    passages = [Passage(f"{one.id}#0", one.id, one.title, one.text) for one in documents]
    keys = [(one.tenant, one.id) for one in documents]
    groups = {key: frozenset(one.groups) for key, one in zip(keys, documents, strict=True)}
    return Access(passages, keys, Rights(1, groups, dict.fromkeys(keys, "")))


def test_a_row_outside_of_the_rights_gives_no_text() -> None:
    access = access_to(document("open", "x"), document("closed", "y", "hilltop"))
    view = access.view(Identity("riverside"))
    assert [passage.text for passage in view.passages(np.array([0]))] == ["x"]
    for rows in ([1], [0, 1], [-1]):
        with pytest.raises(AccessViolation):
            view.passages(np.array(rows))


def test_a_row_whose_document_is_gone_belongs_to_nobody() -> None:
    access = Access([Passage("a#0", "a", "", "x")], [("*", "a")], Rights(2, {}, {}))
    assert not access.view(Identity("riverside")).allowed.any()


# ---- property: whatever there is


TENANTS = st.sampled_from(["*", "riverside", "hilltop", "harbour"])
GROUPS = st.sets(st.sampled_from(["staff", "board", "night-shift"]), max_size=3)
WORDS = st.lists(st.sampled_from(["cat", "dog", "mat", "ran", "sat", "storm"]), min_size=1, max_size=5)
DOCUMENTS = st.lists(st.tuples(TENANTS, GROUPS, WORDS), min_size=1, max_size=14)
CALLERS = st.lists(st.builds(Identity, st.sampled_from(["riverside", "hilltop", "harbour"]), GROUPS.map(frozenset)),
                   min_size=1, max_size=4)  # fmt: skip
KINDS = st.sampled_from(
    [{"kind": "flat"}, {"kind": "hnsw", "m": 2, "ef_search": 1}, {"kind": "ivf", "lists": 3, "probes": 1}]
)
FUSIONS = st.sampled_from([{"kind": "weighted"}, {"kind": "rrf"}, {"kind": "sparse-only"}, {"kind": "dense-only"}])


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, CALLERS, WORDS, KINDS, FUSIONS, st.data())
def test_nothing_outside_of_the_callers_rights_is_found_prompted_cited_logged_or_kept(
    made, callers, words, dense, fusion, data
) -> None:
    """Several callers take turns over the same index; then rights change, and they ask again."""
    documents = [
        Document(f"d{n}", f"title{n}", f"secret{n} {' '.join(words)}", tenant, tuple(sorted(groups)))
        for n, (tenant, groups, words) in enumerate(made)
    ]
    # Asking for a secret itself is the strongest question.
    queries = [" ".join(words), f"secret{data.draw(st.integers(0, len(documents) - 1))} cat"]
    with tempfile.TemporaryDirectory() as folder, _Lines() as lines:
        books = {"indexes": {"blue": {"encoder": "small", "chunk": None, "dense": dense}},
                 "query": {"encoder": "small", "fusion": fusion, "sparse_depth": 3, "dense_depth": 3,
                           "rerank": {"kind": "late-interaction", "encoder": "small"}}}  # fmt: skip
        library = Library(Path(folder), books)
        live = library.open(*documents)
        prompts = PromptBuilder(library.config.prompt, Path(folder, "encoder/tokenizer.json"), 512)
        for round_ in range(2):
            for caller in [*callers, *callers]:
                may_see = {one.id for one in documents if caller.may_see(one.tenant, frozenset(one.groups))}
                for query in queries:
                    _ask_and_judge(live, prompts, caller, query, may_see, documents)
            if round_ == 0:
                documents = _close_and_delete(library, documents, data)
        assert "secret" not in lines.text


def _ask_and_judge(live, prompts: PromptBuilder, caller: Identity, query: str, may_see: set[str], documents) -> None:
    serving, view = live.view(caller)
    found = serving.pipeline.search(query, view, limit=4)
    results = [passage.document for passage in found.passages]
    assert set(results) <= may_see
    assert len(set(results)) == len(results)
    if found.dense.rows.size:  # vectors find something for everybody: nobody gets less than there is
        assert len(found.dense) == min(3, len(may_see))
    for hits in (found.sparse, found.dense, found.fused):
        assert {passage.document for passage in view.passages(hits.rows)} <= may_see
    prompt = prompts.render(found.passages, {"question": "?"}, 20)
    told = str(prompt.messages) + str(prompt.cited)
    for one in documents:
        if one.id not in may_see:
            assert f"{one.title} " not in told.replace("\n", " ")
            assert one.text.split()[0] + " " not in told


def _close_and_delete(library: Library, documents: list[Document], data) -> list[Document]:
    """One document is deleted, another one closed to all but the board of the harbour; the index stays as it is."""
    gone = data.draw(st.sampled_from(documents))
    library.parts.store.delete("books", (gone.tenant, gone.id))
    left = [one for one in documents if one is not gone]
    if left:
        closed = data.draw(st.sampled_from(left))
        new = Document(closed.id, closed.title, closed.text, closed.tenant, ("board",))
        library.write(new)
        left = [new if one is closed else one for one in left]
    library.live.refresh()
    return left


class _Lines(logging.Handler):
    """All log lines of the block, with everything that was given to them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()} {vars(record)}\n"

    def __enter__(self) -> "_Lines":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
