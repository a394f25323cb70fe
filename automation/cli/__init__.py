"""The command line: its commands, what they print, and the doctor.

Each command imports what it needs when it runs. Nothing outside this room imports it.
"""
