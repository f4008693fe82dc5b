"""What trains and measures moderation: labelled texts, obfuscation, the classifiers' weights, the judge's adapter."""
