"""Feeds and exports that are known: each is a format of its own, with the mapping that fits it.

Recognised by what is in the file; nothing has to be set. What a shop's own mapping says goes first.
"""
