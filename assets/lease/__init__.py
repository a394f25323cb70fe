"""The exclusive right to evaluate models of an environment.

A lock on the files of DuckDB, or session locks on the server that holds SQLMesh's state. Nothing
here knows what is done under a lease.
"""
