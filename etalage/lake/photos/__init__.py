"""Links → photos: safe, polite, resumable.

    plan      the tables → which links are due, by host                       plan.py
    shard     links of some hosts → results in files of a spool               shard.py, visiting.py
    commit    files of the spool → tables `photos` and `links`                spool.py

A shard knows nothing of shops, so that it can run anywhere; `fetch.py` and `probe.py` wire the three. A link
ends in one of the states of `states.py`. No server is trusted: addresses.py says where a connection may go,
body.py how much is read, decoder.py decodes in a process that may die.
"""
