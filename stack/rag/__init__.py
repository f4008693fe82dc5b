"""Retrieval: collections, sparse and dense search, fusion, reranking, and answers that cite what they were given."""
