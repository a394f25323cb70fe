"""One run's execution: the thread that calls SQLMesh, and what each step reports of it.

Here is what happens between a run's start and its last step's report. What holds for more than one
run (definitions, decisions, what a tick does) does not belong here.
"""
