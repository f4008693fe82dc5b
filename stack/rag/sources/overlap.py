"""Which questions share few words with what answers them: there a search by words cannot help."""

from stack.rag.config.stages import AnalyserSettings
from stack.rag.sources.collection import Collection
from stack.rag.sparse import Analyser

STEMS = AnalyserSettings(lowercase=True, pattern="word", stopwords="english", stemmer="english")


def shared(query: str, text: str, analyser: Analyser) -> float:
    """Share of the different terms of `query` that `text` has as well, 0 to 1; 1 for a query without terms."""
    terms = set(analyser.terms(query))
    return len(terms & set(analyser.terms(text))) / len(terms) if terms else 1.0


def low_overlap(collection: Collection, share: float) -> Collection:
    """The queries that share at most `share` of their Snowball stems, stop words left out, with each relevant text."""
    analyser = Analyser(STEMS)
    texts = {document.id: document.text for document in collection.documents}
    return collection.of(
        query
        for query in collection.queries
        if all(shared(query.text, texts[found], analyser) <= share for found in collection.judgements[query.id])
    )
