"""Index versions: built from the documents, checked by their manifest, kept in two slots of which one is searched."""
