"""Search over HTTP: what is found, for whom, and what can be seen of it from outside."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from gateway_process import assert_error
from rag_process import BOARD_ONLY, RIVERSIDE_ONLY, RagProcess, StartRag

# ---- what is found


def test_the_passage_that_answers_comes_first_with_its_text(rag: RagProcess) -> None:
    answer = rag.search("what are the cats called").json()
    assert answer["collection"] == "books"
    assert answer["index"]["slot"] == "blue"
    first = answer["results"][0]
    assert (first["rank"], first["document"], first["title"]) == (1, "cats", "House cats")
    assert first["text"] == "The two cats of the reading room are called Comma and Full Stop."
    assert first["chunk"].startswith("cats#0-")
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)


def test_there_are_as_many_results_as_asked_for_or_configured(rag: RagProcess) -> None:
    assert len(rag.found("books")) == 3
    assert len(rag.found("books", limit=1)) == 1
    assert len(rag.found("books", limit=10)) == 6  # all that this caller may see


def test_the_stages_tell_where_they_had_each_result(rag: RagProcess) -> None:
    first = rag.search("cats of the reading room", stages=True).json()["results"][0]
    assert {stage: place["rank"] for stage, place in first["stages"].items()} == {"sparse": 1, "dense": 1, "fused": 1}
    assert rag.search("cats").json()["results"][0]["stages"] is None


def test_every_stage_is_measured(rag: RagProcess) -> None:
    stages = ("wait", "encode", "sparse", "dense", "fuse", "rerank")
    before = {stage: rag.metric("rag_stage_seconds_count", collection="books", stage=stage) for stage in stages}
    rag.found("when does the library open")
    for stage in stages:
        assert rag.metric("rag_stage_seconds_count", collection="books", stage=stage) == before[stage] + 1, stage
    for signal in ("dense_top_score", "sparse_top_score", "query_terms_known_ratio", "legs_overlap_ratio", "results"):
        assert rag.metric(f"rag_{signal}_count", collection="books") > 0, signal


def test_words_that_no_passage_has_are_seen_in_the_metrics(rag: RagProcess) -> None:
    known = rag.metric("rag_query_terms_known_ratio_sum", collection="books")
    rag.found("quokka zeppelin")
    assert rag.metric("rag_query_terms_known_ratio_sum", collection="books") == known


# ---- for whom


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "no_identity"),
        ({"x_tenant": ""}, "no_identity"),
        ({"x_tenant": "*"}, "no_identity"),
        ({"x_tenant": "river side"}, "no_identity"),
        ({"x_tenant": "riverside", "x_groups": "board,*"}, "no_identity"),
    ],
)
def test_who_does_not_say_clearly_who_he_is_finds_nothing(rag: RagProcess, headers: dict[str, str], code: str) -> None:
    response = rag.send("POST", "/v1/search", {"collection": "books", "query": "alarm"}, **headers)
    assert_error(response, 401, code)


def test_an_identity_that_is_given_twice_is_none(rag: RagProcess) -> None:
    with rag.client() as client:
        headers = [("x-tenant", "hilltop"), ("x-tenant", "riverside")]
        response = client.post("/v1/search", json={"collection": "books", "query": "alarm"}, headers=headers)
    assert_error(response, 401, "no_identity")


def test_a_tenants_documents_are_for_that_tenant(rag: RagProcess) -> None:
    assert rag.found("code of the alarm", limit=10)[0] == "alarm"
    hilltop = rag.search("code of the alarm", tenant="hilltop", limit=10)
    assert "alarm" not in [result["document"] for result in hilltop.json()["results"]]
    assert RIVERSIDE_ONLY["text"] not in hilltop.text


def test_a_groups_documents_are_for_that_group_of_that_tenant(rag: RagProcess) -> None:
    question = "how much does the board spend on shelves"
    assert rag.found(question, groups="staff,board", limit=10)[0] == "budget"
    for tenant, groups in (("riverside", ""), ("riverside", "staff"), ("hilltop", "board")):
        assert BOARD_ONLY["text"] not in rag.search(question, tenant, groups, limit=10).text


def test_a_small_tenants_results_are_not_cut_after_the_search(start_rag: StartRag) -> None:
    """Forty documents of another tenant are nearer to the question; the one that may be seen is found all the same."""
    rag = start_rag(collections={"books": {"query": {"sparse_depth": 5, "dense_depth": 5}}})
    others = [{"id": f"cat-{n}", "text": f"Cats and more cats, number {n}.", "tenant": "*", "groups": ["cats"]}
              for n in range(40)]  # fmt: skip
    rag.write(*others, {"id": "own", "text": "A dog lives in the cellar.", "tenant": "riverside"})
    rag.build("blue")
    assert rag.found("cats", limit=5) == ["own"]
    assert len(rag.found("cats", groups="cats", limit=5)) == 5


# ---- refusals


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"collection": "books", "query": " "}, 400, "bad_request", "blank"),
        ({"collection": "books", "query": "x" * 301}, 400, "bad_request", "at most 300 char"),
        ({"collection": "books", "query": "x", "limit": 11}, 400, "bad_request", "less than or equal to 10"),
        ({"collection": "books", "query": "x", "limit": 0}, 400, "bad_request", "limit"),
        ({"collection": "books", "query": "x", "k": 3}, 400, "bad_request", "k"),
        ({"collection": "books", "query": "\ud800"}, 400, "bad_request", "unicode"),
        ({"collection": "boks", "query": "x"}, 404, "not_found", "boks"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    rag: RagProcess, body: dict, status: int, code: str, says: str
) -> None:
    assert_error(rag.send("POST", "/v1/search", body, x_tenant="riverside"), status, code, says)


def test_one_search_too_many_is_turned_away_and_the_others_are_answered(start_rag: StartRag) -> None:
    rag = start_rag(limits={"search_threads": 1, "waiting_searches": 0})
    rag.write({"id": "long", "text": "word " * 2000, "tenant": "*"})
    rag.build("blue")
    with ThreadPoolExecutor(16) as threads:
        statuses = {response.status_code for response in threads.map(rag.search, ["a word and more"] * 64)}
    assert statuses == {200, 429}


def test_what_was_searched_for_is_not_in_the_log(rag: RagProcess) -> None:
    rag.found("zanzibar shipping forecast")
    rag.ask("who writes the zanzibar shipping forecast")
    assert "zanzibar" not in rag.log_file.read_text()
    assert "Comma and Full Stop" not in rag.log_file.read_text()
